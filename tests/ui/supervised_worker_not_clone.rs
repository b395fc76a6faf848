use offspring::supervisor::ChildSpec;

#[offspring::worker]
fn serve() {}

fn main() {
    let _ = ChildSpec::worker("server", serve::new());
}
