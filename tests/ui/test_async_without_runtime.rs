use std::future::ready;

#[offspring::test]
async fn counts() {
    ready(()).await;
}

fn main() {}
