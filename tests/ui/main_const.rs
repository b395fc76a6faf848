#[offspring::main]
const fn main() {}
