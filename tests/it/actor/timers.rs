//! Messages that an actor sends itself later.

use std::time::{Duration, Instant};

use offspring::actor::{ActorBuilder, Context, DownReason, Timer};
use offspring::supervisor::{ChildSpec, Supervisor};
use offspring::{ExitReason, Queue, Sender, channel};

use super::LONG;
use crate::support::{eventually, signal, suspend};

const TICK: Duration = Duration::from_millis(20);
/// More intervals than a test needs to see.
const MANY: u32 = 10;

/// Tells a listener what it handles.
struct Clock {
    context: Context<Clock>,
    listener: Sender<String>,
    interval: Option<Timer>,
}

#[offspring::actor]
impl Clock {
    /// With `early`, sets a timer before the actor is up.
    fn start(listener: Sender<String>, early: bool, context: &Context<Self>) -> Self {
        if early && context.generation() == 0 {
            context.cast_after(Duration::ZERO, ClockMessage::Tell { text: "early".to_owned() });
        }
        Clock { context: context.clone(), listener, interval: None }
    }

    #[cast]
    pub fn tell(&mut self, text: String) {
        let _ = self.listener.send(text);
    }

    pub fn after(&mut self, time: Duration, text: String) {
        self.context.cast_after(time, ClockMessage::Tell { text });
    }

    pub fn every(&mut self, interval: Duration) {
        let make = || ClockMessage::Tell { text: "tick".to_owned() };
        self.interval = Some(self.context.cast_every(interval, make));
    }

    pub fn cancel(&mut self) -> bool {
        self.interval.take().is_some_and(|interval| interval.cancel())
    }

    /// Cancels a timer whose time has passed, while the thread of the timers waits for this.
    pub fn cancel_late(&mut self) -> bool {
        let late =
            self.context.cast_after(Duration::ZERO, ClockMessage::Tell { text: "no".to_owned() });
        std::thread::sleep(TICK);
        late.cancel()
    }

    /// Keeps the sender for as long as the timer is set.
    pub fn hold(&mut self, sender: Sender<()>) {
        self.context.cast_after(LONG * 60, ClockMessage::Release { sender });
    }

    #[cast]
    pub fn release(&mut self, sender: Sender<()>) {
        drop(sender);
    }

    pub fn crash_after(&mut self, time: Duration) {
        self.context.cast_after(time, ClockMessage::Crash {});
    }

    #[cast]
    pub fn crash(&mut self) {
        panic!("its time has come");
    }

    pub fn crash_in_the_interval(&mut self) {
        self.context.cast_every(Duration::from_millis(1), || panic!("no message"));
    }

    /// Sets a timer and says that it is busy, until the queue is closed.
    #[cast]
    pub fn work(&mut self, until: Queue<()>) {
        self.context.cast_after(Duration::ZERO, ClockMessage::Tell { text: "timer".to_owned() });
        let _ = self.listener.send("busy".to_owned());
        let _ = until.get();
    }
}

#[offspring::test(timeout = "20s")]
fn a_message_comes_once_and_not_too_early() {
    let (listener, heard) = channel().unwrap();
    let clock = Clock::spawn(listener, true).unwrap();
    assert_eq!(heard.recv().unwrap(), "early");
    let since = Instant::now();
    clock.after(TICK, "first".to_owned()).unwrap();
    clock.after(TICK * 2, "second".to_owned()).unwrap();
    clock.after(TICK * 3, "third".to_owned()).unwrap();
    assert_eq!(heard.recv().unwrap(), "first");
    assert!(since.elapsed() >= TICK);
    assert_eq!(heard.recv().unwrap(), "second");
    assert_eq!(heard.recv().unwrap(), "third");
    assert!(since.elapsed() >= TICK * 3);
    drop(clock);
    assert!(heard.recv().is_err(), "each came once");
}

#[offspring::test(timeout = "20s")]
fn an_interval_goes_on_until_it_is_canceled() {
    let (listener, heard) = channel().unwrap();
    let clock = Clock::spawn(listener, false).unwrap();
    let since = Instant::now();
    clock.every(TICK).unwrap();
    for n in 1..=3 {
        assert_eq!(heard.recv().unwrap(), "tick");
        assert!(since.elapsed() >= TICK * n, "{n}");
    }
    assert!(clock.cancel().unwrap());
    assert!(!clock.cancel().unwrap());
    // All that a handler has sent before the reply is there.
    while heard.try_recv().is_ok() {}
    clock.after(TICK * 3, "later".to_owned()).unwrap();
    assert_eq!(heard.recv().unwrap(), "later", "it ticks no more");
}

#[offspring::test(timeout = "20s")]
fn a_handler_that_cancels_a_timer_does_not_get_its_message() {
    let (listener, heard) = channel().unwrap();
    let clock = Clock::spawn(listener, false).unwrap();
    assert!(clock.cancel_late().unwrap());
    clock.after(Duration::ZERO, "next".to_owned()).unwrap();
    assert_eq!(heard.recv().unwrap(), "next");
}

/// Three ticks after a time in which several were missed take at least one interval: the first comes
/// at once, the second at the next multiple.
fn assert_no_burst(heard: &offspring::Receiver<String>) {
    let since = Instant::now();
    let ticks = heard.iter().filter(|text| text == "tick");
    assert_eq!(ticks.take(3).count(), 3);
    assert!(since.elapsed() >= TICK, "missed ticks came in a bunch");
}

#[offspring::test(timeout = "20s")]
fn ticks_that_a_busy_actor_misses_are_not_made_up_for() {
    let (listener, heard) = channel().unwrap();
    let clock = Clock::spawn(listener, false).unwrap();
    clock.every(TICK).unwrap();
    assert_eq!(heard.recv().unwrap(), "tick");
    let until = Queue::unbounded().unwrap();
    clock.work(until.clone()).unwrap();
    while heard.recv().unwrap() != "busy" {}
    std::thread::sleep(TICK * MANY);
    until.close().unwrap();
    // Which of the two was due first does not matter.
    assert_no_burst(&heard);
}

#[offspring::test(timeout = "20s")]
fn ticks_that_a_suspended_actor_misses_are_not_made_up_for() {
    let (listener, heard) = channel().unwrap();
    let clock = Clock::spawn(listener, false).unwrap();
    clock.every(TICK).unwrap();
    assert_eq!(heard.recv().unwrap(), "tick");
    let pid = clock.pid().unwrap();
    suspend(pid);
    std::thread::sleep(TICK * MANY);
    while heard.try_recv().is_ok() {}
    signal(pid, "CONT");
    assert_no_burst(&heard);
}

/// Whether the thread of the timers is there, and sleeps.
fn timers_sleep(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let mut stats =
        threads.filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("stat")).ok());
    stats.any(|stat| stat.contains("(offspring-timer") && stat.contains(") S "))
}

#[offspring::test(timeout = "20s")]
fn a_timer_does_not_wait_behind_a_full_mailbox() {
    let (listener, heard) = channel().unwrap();
    let builder = ActorBuilder::new().mailbox(4);
    let clock = builder.spawn::<Clock>((listener, false)).unwrap().typed::<ClockHandle>();
    let until = Queue::unbounded().unwrap();
    clock.work(until.clone()).unwrap();
    assert_eq!(heard.recv().unwrap(), "busy");
    let message = || ClockMessage::Tell { text: "mail".to_owned() };
    let mail = (0..20).take_while(|_| clock.try_cast(message()).is_ok()).count();
    assert!(mail >= 4);
    let pid = clock.pid().unwrap();
    let mut asleep = 0;
    eventually("the timers' thread waits for the state", || {
        asleep = if timers_sleep(pid) { asleep + 1 } else { 0 };
        asleep == 3
    });
    until.close().unwrap();
    let order: Vec<_> = (0..=mail).map(|_| heard.recv().unwrap()).collect();
    // The mailbox's thread may have taken one item before, and waits for the state, too.
    let place = order.iter().position(|text| text == "timer");
    assert!(place.is_some_and(|place| place <= 1), "{order:?}");
}

#[offspring::test(timeout = "20s")]
fn what_is_not_handled_when_the_actor_stops_is_dropped() {
    let (listener, heard) = channel().unwrap();
    let clock = Clock::spawn(listener, false).unwrap();
    let (sender, dropped) = channel::<()>().unwrap();
    clock.hold(sender).unwrap();
    clock.every(TICK).unwrap();
    assert_eq!(heard.recv().unwrap(), "tick");
    assert_eq!(clock.stop(), DownReason::Shutdown);
    assert!(dropped.recv().is_err());
}

#[offspring::test(timeout = "20s")]
fn timers_end_with_their_incarnation() {
    let (listener, heard) = channel().unwrap();
    let (spec, clock) = ChildSpec::with_handle::<ClockHandle>(
        "clock",
        ActorBuilder::new(),
        (listener.clone(), true),
    )
    .unwrap();
    let supervisor = Supervisor::builder().child(spec).start().unwrap();
    assert_eq!(heard.recv().unwrap(), "early");
    clock.every(TICK).unwrap();
    assert_eq!(heard.recv().unwrap(), "tick");
    let monitor = clock.monitor().unwrap();
    signal(supervisor.children()[0].pid.unwrap(), "KILL");
    assert!(monitor.wait().restarts);
    // The next one sets none in its start.
    clock.after(TICK * 3, "next".to_owned()).unwrap();
    while heard.try_recv().is_ok_and(|text| text == "tick") {}
    assert_eq!(heard.recv().unwrap(), "next");
}

#[offspring::test(timeout = "20s")]
fn a_panic_in_the_message_of_a_timer_ends_the_actor_with_it() {
    let (listener, _heard) = channel().unwrap();
    let clock = Clock::spawn(listener.clone(), false).unwrap();
    let monitor = clock.monitor().unwrap();
    clock.crash_after(TICK).unwrap();
    let reason = monitor.wait().reason;
    let DownReason::Died(ExitReason::Panicked(report)) = reason else { panic!("{reason}") };
    assert_eq!(report.message, "its time has come");

    let clock = Clock::spawn(listener, false).unwrap();
    let monitor = clock.monitor().unwrap();
    // The panic may come before the reply.
    let _ = clock.crash_in_the_interval();
    let reason = monitor.wait().reason;
    let DownReason::Died(ExitReason::Panicked(report)) = reason else { panic!("{reason}") };
    assert_eq!(report.message, "no message");
}
