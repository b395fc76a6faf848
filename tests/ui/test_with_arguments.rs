#[offspring::test]
fn counts(ticks: u32) {
    assert_eq!(ticks, 5);
}

fn main() {}
