"""Counts the words of files with a Rust library, in worker processes.

cargo build -p python-host
python3 examples/python/count_words.py target/debug/libpython_host.so FILE...
"""

import ctypes
import sys


def load(path):
    lib = ctypes.CDLL(path)
    lib.host_init.argtypes = lib.count_words.argtypes = [ctypes.c_char_p]
    lib.host_init.restype = lib.count_words.restype = ctypes.c_int64
    lib.last_error.restype = ctypes.c_char_p
    return lib


def main(library, *files):
    lib = load(library)
    if lib.host_init(library.encode()) < 0:
        sys.exit(lib.last_error().decode())
    for file in files:
        words = lib.count_words(file.encode())
        print(file, lib.last_error().decode() if words < 0 else words)
    lib.host_end()


if __name__ == "__main__":
    main(*sys.argv[1:])
