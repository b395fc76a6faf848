#[offspring::main]
fn start() {}

fn main() {
    start();
}
