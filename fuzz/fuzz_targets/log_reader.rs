#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| chunk_sync_testkit::fuzz::log_reader(input));
