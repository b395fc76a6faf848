use offspring::Worker;

#[derive(Worker)]
union Number {
    _whole: u64,
    _real: f64,
}

fn main() {}
