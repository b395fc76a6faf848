#[offspring::test(timeout = "10")]
fn counts() {}

fn main() {}
