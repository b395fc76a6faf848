//! Counting the words of one file, in whatever process.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read};

use serde::{Deserialize, Serialize};

use crate::files::File;

pub(crate) type Words = HashMap<String, u64>;

/// The result for one file.
#[derive(Serialize, Deserialize)]
pub(crate) enum Outcome {
    Counted,
    Binary,
    Failed(String),
}

/// Files are read in pieces of this size, however long their lines are.
const CHUNK: usize = 64 << 10;
/// A file with a NUL byte in its first `HEAD` bytes is binary.
const HEAD: usize = 8 << 10;
/// Words are cut off after this many bytes.
const WORD_MAX: usize = 256;

/// Adds the words of a file. After an error, those before it are counted.
pub(crate) fn file(file: &File, words: &mut Words) -> Outcome {
    match read(file, words) {
        Ok(true) => Outcome::Counted,
        Ok(false) => Outcome::Binary,
        Err(error) => Outcome::Failed(error.to_string()),
    }
}

/// Returns `false` if it is binary.
fn read(file: &File, words: &mut Words) -> io::Result<bool> {
    let mut reader = fs::File::open(file.path())?;
    let mut counter = Counter { words, word: String::new(), apostrophe: false };
    let mut buffer = Vec::with_capacity(CHUNK);
    let mut begins = true;
    loop {
        let room = CHUNK - buffer.len();
        if reader.by_ref().take(room as u64).read_to_end(&mut buffer)? == 0 {
            break;
        }
        if begins && !file.named && buffer[..buffer.len().min(HEAD)].contains(&0) {
            return Ok(false);
        }
        begins = false;
        let used = counter.bytes(&buffer);
        buffer.drain(..used);
    }
    counter.end_word();
    Ok(true)
}

struct Counter<'a> {
    words: &'a mut Words,
    /// The unfinished word at the end of what was read so far.
    word: String,
    /// Whether an apostrophe follows it. It is part of the word if a letter comes next.
    apostrophe: bool,
}

impl Counter<'_> {
    /// Returns the number of bytes consumed: all, except for an incomplete character at the end.
    fn bytes(&mut self, bytes: &[u8]) -> usize {
        let mut used = 0;
        for chunk in bytes.utf8_chunks() {
            self.text(chunk.valid());
            used += chunk.valid().len();
            let invalid = chunk.invalid();
            if used + invalid.len() == bytes.len() && begins_character(invalid) {
                break;
            }
            if !invalid.is_empty() {
                self.end_word();
                used += invalid.len();
            }
        }
        used
    }

    fn text(&mut self, text: &str) {
        for character in text.chars() {
            if character.is_alphanumeric() {
                if std::mem::take(&mut self.apostrophe) {
                    self.push('\'');
                }
                character.to_lowercase().for_each(|character| self.push(character));
            } else if character == '\'' && !self.word.is_empty() && !self.apostrophe {
                self.apostrophe = true;
            } else {
                self.end_word();
            }
        }
    }

    fn push(&mut self, character: char) {
        if self.word.len() < WORD_MAX {
            self.word.push(character);
        }
    }

    fn end_word(&mut self) {
        self.apostrophe = false;
        if self.word.is_empty() {
            return;
        }
        match self.words.get_mut(&self.word) {
            Some(count) => *count += 1,
            None => {
                self.words.insert(self.word.clone(), 1);
            }
        }
        self.word.clear();
    }
}

fn begins_character(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}
