#[offspring::test]
const fn counts() {}

fn main() {}
