#[offspring::test]
#[test]
fn counts() {}

fn main() {}
