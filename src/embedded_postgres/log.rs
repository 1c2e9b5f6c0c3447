//! The server's log in a file, bounded: one generation is kept beside it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

/// A file that is moved to `<name>.1` when it has grown past this many bytes.
const BYTES_MAX: u64 = 16 << 20;

pub(super) struct RotatedLog {
    path: PathBuf,
    file: Option<(File, u64)>,
    bytes_max: u64,
}

impl RotatedLog {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, file: None, bytes_max: BYTES_MAX }
    }

    fn open(&mut self) -> io::Result<&mut (File, u64)> {
        if self.file.as_ref().is_some_and(|(_, length)| *length >= self.bytes_max) {
            self.file = None;
            fs::rename(&self.path, self.path.with_extension("log.1"))?;
        }
        if self.file.is_none() {
            let file = OpenOptions::new().create(true).append(true).open(&self.path)?;
            let length = file.metadata()?.len();
            self.file = Some((file, length));
        }
        Ok(self.file.as_mut().expect("it was opened above"))
    }
}

impl Write for RotatedLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (file, length) = self.open()?;
        let written = file.write(bytes)?;
        *length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_never_outgrows_two_generations() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("postgres.log");
        let mut log = RotatedLog { bytes_max: 8, ..RotatedLog::new(path.clone()) };
        for line in ["one.....", "two.....", "three"] {
            log.write_all(line.as_bytes()).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "three");
        assert_eq!(fs::read_to_string(folder.path().join("postgres.log.1")).unwrap(), "two.....");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
