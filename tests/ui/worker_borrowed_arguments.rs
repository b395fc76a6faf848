use std::path::Path;

#[offspring::worker]
fn search<'a>(word: &'a str, bytes: &[u8], file: &Path, found: &mut u32) -> bool {
    *found += 1;
    file.exists() && bytes == word.as_bytes()
}

fn main() {
    let _: bool = search::spawn("x", b"x", Path::new("x"), &mut 0).unwrap().join().unwrap();
}
