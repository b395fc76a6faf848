//! The part `idle` with ipc-channel alone: a hub with one receiver set.

use std::thread::JoinHandle;

use ipc_channel::ipc::{self, IpcReceiver, IpcReceiverSet, IpcSelectionResult, IpcSender};

use crate::idle::{Pair, medians};
use crate::run::{Crew, Meter, Plan, sleep};

#[offspring::worker]
fn idle(hub: IpcSender<u64>, here: Meter) {
    hub.send(0).unwrap();
    here.tick();
    sleep()
}

#[offspring::worker]
fn produce(hub: IpcSender<u64>) {
    while hub.send(7).is_ok() {}
}

#[offspring::worker]
fn consume(items: IpcReceiver<u64>, meter: Meter) {
    while items.recv().is_ok() {
        meter.tick();
    }
}

#[offspring::worker]
fn ping(hub: IpcSender<u64>, back: IpcReceiver<u64>, meter: Meter) {
    for n in 1.. {
        hub.send(n).unwrap();
        assert_eq!(back.recv().unwrap(), n);
        meter.tick();
    }
}

#[offspring::worker]
fn echo(there: IpcReceiver<u64>, hub: IpcSender<u64>) {
    while let Ok(n) = there.recv() {
        hub.send(n).unwrap();
    }
}

#[offspring::worker]
fn stream(to: IpcSender<u64>, meter: Meter) {
    while to.send(7).is_ok() {
        meter.tick();
    }
}

/// The rates of so many producers of one channel, several times.
pub(crate) fn rates_of_producers(plan: &Plan, count: usize) -> Vec<Vec<f64>> {
    let (mut crew, meter) = (Crew::default(), Meter::new(count));
    let (sender, receiver) = ipc::channel().unwrap();
    crew.add(consume::new(receiver, Meter::new(1)));
    (0..count).for_each(|n| crew.add(stream::new(sender.clone(), meter.of(n))));
    std::thread::sleep(plan.warm_up());
    (0..plan.rounds()).map(|_| meter.rates(plan.window()).0).collect()
}

/// The channels that the hub's thread serves, and where it forwards the messages of each.
type Routes = Vec<(IpcReceiver<u64>, Option<IpcSender<u64>>)>;

/// Forwards until all clients are gone.
fn hub(routes: Routes) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut set = IpcReceiverSet::new().unwrap();
        let mut left = routes.len();
        let mut to = std::collections::HashMap::new();
        for (receiver, forward) in routes {
            to.insert(set.add(receiver).unwrap(), forward);
        }
        while left > 0 {
            for result in set.select().unwrap() {
                match result {
                    IpcSelectionResult::MessageReceived(client, message) => {
                        if let Some(to) = &to[&client] {
                            // Fails when the client was killed.
                            let _ = to.send(message.to::<u64>().unwrap());
                        }
                    }
                    IpcSelectionResult::ChannelClosed(_) => left -= 1,
                }
            }
        }
    })
}

fn with_idle(
    plan: &Plan,
    count: usize,
    busy: impl FnOnce(&mut Routes, &mut Crew, &Meter),
) -> (f64, f64) {
    let (mut crew, mut routes, here) = (Crew::default(), Routes::new(), Meter::new(count));
    for client in 0..count {
        let (sender, receiver) = ipc::channel().unwrap();
        crew.add(idle::new(sender, here.of(client)));
        routes.push((receiver, None));
    }
    here.wait_for(count as u64);
    let meter = Meter::new(1);
    busy(&mut routes, &mut crew, &meter);
    let hub = hub(routes);
    std::thread::sleep(plan.warm_up());
    let measured = (0..plan.rounds()).map(|_| {
        let (rates, time) = meter.rates(plan.window());
        (rates[0], time)
    });
    let figures = medians(measured.collect());
    drop(crew);
    hub.join().unwrap();
    figures
}

pub(crate) fn beside(plan: &Plan, counts: &[usize]) -> Vec<Pair> {
    let figures = counts.iter().map(|&count| {
        let (stream, of_stream) = with_idle(plan, count, |routes, crew, meter| {
            let (to_hub, from_producer) = ipc::channel().unwrap();
            let (to_consumer, items) = ipc::channel().unwrap();
            crew.add(consume::new(items, meter.clone()));
            crew.add(produce::new(to_hub));
            routes.push((from_producer, Some(to_consumer)));
        });
        let (round_trips, of_round_trip) = with_idle(plan, count, |routes, crew, meter| {
            let (ping_to_hub, from_ping) = ipc::channel().unwrap();
            let (echo_to_hub, from_echo) = ipc::channel().unwrap();
            let (to_ping, back) = ipc::channel().unwrap();
            let (to_echo, there) = ipc::channel().unwrap();
            crew.add(echo::new(there, echo_to_hub));
            crew.add(ping::new(ping_to_hub, back, meter.clone()));
            routes.push((from_ping, Some(to_echo)));
            routes.push((from_echo, Some(to_ping)));
        });
        Pair { stream, of_stream, round_trip: 1e6 / round_trips, of_round_trip }
    });
    figures.collect()
}
