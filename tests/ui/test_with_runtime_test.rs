use std::future::ready;

#[offspring::test]
#[tokio::test]
async fn counts() {
    ready(()).await;
}

fn main() {}
