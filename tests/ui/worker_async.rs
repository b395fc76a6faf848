#[offspring::worker]
async fn fetch(url: String) -> String {
    url
}

fn main() {
    let _page: String = fetch::spawn("x".to_owned()).unwrap().join().unwrap();
}
