use offspring::sync::Mutex;

fn main() {
    let _channel = offspring::channel::<Mutex<String>>();
}
