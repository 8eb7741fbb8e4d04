//! Finds listening Unix sockets in `/proc/net/unix`.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Flag of a Unix socket that accepts connections (`__SO_ACCEPTCON`), as `/proc/net/unix` prints it.
const ACCEPTS: &[u8] = b"00010000";

/// Returns the inodes of the Unix sockets that listen under exactly this path, sorted; empty if the listener was bound
/// in another network namespace, or by another path to the same file.
pub fn unix_listener_inodes(path: &Path) -> Vec<u64> {
    let Ok(table) = File::open("/proc/net/unix") else { return Vec::new() };
    // Split as bytes: paths are not always UTF-8.
    let lines = BufReader::new(table).split(b'\n').map_while(Result::ok);
    let mut inodes: Vec<u64> = lines.filter_map(|line| unix_inode_of(&line, path)).collect();
    inodes.sort_unstable();
    inodes
}

/// Parses a line `Num: RefCount Protocol Flags Type St Inode Path`, in which only the inode is padded with spaces.
fn unix_inode_of(line: &[u8], path: &Path) -> Option<u64> {
    let before = line.strip_suffix(path.as_os_str().as_bytes())?.strip_suffix(b" ")?;
    let mut fields = before.split(|&byte| byte == b' ').filter(|field| !field.is_empty());
    if fields.nth(3)? != ACCEPTS {
        return None;
    }
    std::str::from_utf8(fields.nth(2)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_listening_socket_of_just_that_path_is_found() {
        let find = |line: &str| unix_inode_of(line.as_bytes(), Path::new("/run/m.sock"));
        let listening = "ffff8: 00000002 00000000 00010000 0001 01  4711 /run/m.sock";
        assert_eq!(find(listening), Some(4711));
        assert_eq!(find("ffff8: 00000003 00000000 00000000 0001 03  4712 /run/m.sock"), None);
        assert_eq!(find("ffff8: 00000002 00000000 00010000 0001 01  4713 /x/run/m.sock"), None);
        for garbage in ["", "Num Path", " /run/m.sock", "a b c 00010000 0001 01 x /run/m.sock"] {
            assert_eq!(find(garbage), None, "{garbage}");
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let _client = std::os::unix::net::UnixStream::connect(&path).unwrap();
        assert_eq!(unix_listener_inodes(&path).len(), 1);
    }
}
