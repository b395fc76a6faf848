use std::net::TcpStream;

#[offspring::worker]
fn serve(stream: TcpStream) {
    drop(stream);
}

fn main() {
    let _ = serve::spawn;
}
