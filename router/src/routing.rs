//! Loading the routing file.

use std::path::Path;

use distribution::Routing;

/// Reads and checks a routing file. Its version is a fingerprint of its text, so that a decision names
/// the very text it was made by.
///
/// # Errors
/// In words for people: every mistake with its line and column, or why the file cannot be read.
pub(crate) fn load(path: &Path) -> Result<Routing, String> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
    let routing = Routing::from_yaml(&text, &name).map_err(|errors| errors.to_string())?;
    Ok(routing.with_version(fingerprint(&text)))
}

/// FNV-1a in 32 bits: the same on every machine and for ever, and short enough to compare by eye.
fn fingerprint(text: &str) -> u64 {
    let hash =
        text.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    u64::from(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fingerprint_never_changes() {
        assert_eq!((fingerprint(""), fingerprint("foobar")), (0x811c_9dc5, 0xbf9c_f968));
    }

    #[test]
    fn the_example_can_be_loaded_and_a_missing_file_is_named() {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/routing.example.yaml");
        assert!(load(&example).unwrap().version() > 0);
        assert!(load(Path::new("/nowhere.yaml")).unwrap_err().starts_with("/nowhere.yaml: No such file"));
    }
}
