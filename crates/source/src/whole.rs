//! Files that are whole whenever the machine stops: the old one, or the new one. Nobody else may read them: keys and
//! passwords are in them.

use std::fs::{File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

const OURS_ALONE: u32 = 0o600;

/// Replaces the file by what `fill` writes; on disk when this returns.
pub fn write_whole(path: &Path, fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<()> {
    let temp = path.with_extension("tmp");
    let file = File::options().write(true).create(true).truncate(true).mode(OURS_ALONE).open(&temp)?;
    // One that was left behind has what permissions it has.
    file.set_permissions(Permissions::from_mode(OURS_ALONE))?;
    let mut file = BufWriter::new(file);
    fill(&mut file)?;
    file.flush()?;
    file.get_ref().sync_all()?;
    std::fs::rename(&temp, path)?;
    match path.parent().filter(|p| !p.as_os_str().is_empty()) {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}
