use std::future::ready;

#[offspring::main]
async fn main() {
    ready(()).await;
}
