#[offspring::test(timeout = "0s")]
fn counts() {}

fn main() {}
