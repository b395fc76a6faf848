use std::borrow::Cow;

#[offspring::worker]
fn greet(name: Cow<'_, str>) -> usize {
    name.len()
}

fn main() {
    let _ = greet::new("x".into());
}
