//! Files that are whole whenever the machine stops: the old one, or the new one.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Replaces the file by what `fill` writes; on disk when this returns.
pub fn write_whole(path: &Path, fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<()> {
    let temp = path.with_extension("tmp");
    let mut file = BufWriter::new(File::create(&temp)?);
    fill(&mut file)?;
    file.flush()?;
    file.get_ref().sync_all()?;
    std::fs::rename(&temp, path)?;
    match path.parent().filter(|p| !p.as_os_str().is_empty()) {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}
