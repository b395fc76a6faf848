struct Cell<T>(T);

#[offspring::actor]
impl<T> Cell<T> {
    fn start(value: T) -> Self {
        Cell(value)
    }
}

fn main() {}
