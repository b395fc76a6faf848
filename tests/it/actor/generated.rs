//! The code that `#[offspring::actor]` generates, as programs use it.

use std::time::Duration;

use offspring::actor::{
    ActorBuilder, ActorRef, CallError, CastError, Checkpoint, Context, DownReason, StartError,
};
use offspring::supervisor::{ChildSpec, Supervisor};
use offspring::{Queue, Sender};

use super::{LONG, SHORT};

pub(crate) struct Ledger {
    entries: Vec<(String, i64)>,
    log: Queue<String>,
}

#[offspring::actor]
impl Ledger {
    /// A ledger without a name does not start.
    pub(crate) fn start(
        owner: String,
        log: Queue<String>,
        context: &Context<Self>,
    ) -> Result<Self, std::io::Error> {
        if owner.is_empty() {
            return Err(std::io::Error::other("whose ledger is it?"));
        }
        let entries = context.checkpoint().map_err(std::io::Error::other)?.unwrap_or_default();
        Ok(Ledger { entries, log })
    }

    /// Books an amount, and returns the sum.
    pub fn book(&mut self, text: String, amount: i64) -> Result<i64, String> {
        if amount == 0 {
            return Err(format!("{text}: nothing to book"));
        }
        self.entries.push((text, amount));
        Ok(self.sum())
    }

    pub fn sum(&self) -> i64 {
        self.entries.iter().map(|(_, amount)| amount).sum()
    }

    #[cast]
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    #[cast]
    pub fn tell(&self, to: Sender<i64>) {
        to.send(self.sum()).expect("the test listens");
    }

    pub fn wait(&self, time: Duration) {
        std::thread::sleep(time);
    }

    #[cast]
    pub fn crash(&mut self) {
        std::process::abort();
    }

    fn checkpoint(&self) -> Option<Checkpoint> {
        Checkpoint::new(&self.entries).ok()
    }

    fn stop(&mut self, reason: &DownReason) {
        let _ = self.log.put(format!("{reason} at {}", self.sum()));
    }
}

fn log() -> Queue<String> {
    let log = Queue::unbounded().unwrap();
    log.put(String::new()).unwrap();
    log.get().unwrap();
    log
}

#[offspring::worker]
fn books(ledger: LedgerHandle) -> i64 {
    ledger.book("lunch".to_owned(), -12).expect("it lives").expect("it is booked");
    ledger.sum().expect("it lives")
}

#[offspring::test(timeout = "20s")]
fn the_handle_has_the_methods_and_travels() {
    let log = log();
    let ledger = Ledger::spawn("anna".to_owned(), log.clone()).unwrap();
    assert_eq!(ledger.book("wages".to_owned(), 100).unwrap(), Ok(100));
    assert_eq!(ledger.book("air".to_owned(), 0).unwrap(), Err("air: nothing to book".to_owned()));
    assert_eq!(books::spawn(ledger.address()).unwrap().join().unwrap(), 88);
    let (sender, sums) = offspring::channel().unwrap();
    ledger.clear().unwrap();
    ledger.tell(sender).unwrap();
    assert_eq!(sums.recv().unwrap(), 0, "casts keep their order");
    let error = ledger.with_timeout(SHORT).wait(SHORT * 5).unwrap_err();
    assert!(error.is_timeout(), "{error}");
    ledger.stop();
    assert_eq!(log.get_timeout(LONG).unwrap(), "was asked to stop at 0");
    assert!(matches!(ledger.sum(), Err(CallError::Down { .. })));
    let Err(CastError::Down { actor, message: LedgerMessage::Clear {}, reason }) = ledger.clear()
    else {
        panic!("the message comes back")
    };
    assert_eq!((actor.as_str(), reason), (ledger.name(), DownReason::Shutdown));
}

#[offspring::test(timeout = "20s")]
fn the_error_of_a_start_is_reported() {
    let Err(StartError::Down { reason, .. }) = Ledger::spawn(String::new(), log()) else {
        panic!("it started")
    };
    assert_eq!(reason, DownReason::Failed("whose ledger is it?".to_owned()));
}

#[offspring::test(timeout = "20s")]
fn calls_have_a_form_for_tasks() {
    let ledger = Ledger::spawn("anna".to_owned(), log()).unwrap();
    let sums = pollster::block_on(async {
        let first = ledger.book_async("wages".to_owned(), 100).await?;
        Ok::<_, CallError>((first, ledger.sum_async().await?))
    });
    assert_eq!(sums.unwrap(), (Ok(100), 100));
}

#[offspring::test(timeout = "30s")]
fn it_is_supervised_as_any_actor_and_the_handle_stays() {
    let args = ("anna".to_owned(), log());
    let supervisor = Supervisor::builder()
        .intensity(5)
        .child(ChildSpec::actor_with::<Ledger>(
            "ledger",
            ActorBuilder::new().name("ledger").mailbox(4),
            args,
        ))
        .start()
        .unwrap();
    let ledger: LedgerHandle = supervisor.handle("ledger").unwrap();
    for n in 1..=3 {
        assert_eq!(ledger.book("wages".to_owned(), 10).unwrap(), Ok(10 * n));
        let monitor = ledger.monitor().unwrap();
        ledger.crash().unwrap();
        assert!(monitor.wait().restarts);
        assert_eq!(ledger.sum().unwrap(), 10 * n, "what a reply has shown survives");
    }
    let plain: &ActorRef<Ledger> = &ledger;
    assert_eq!(plain.generation().unwrap(), 3);
}
