use super::super::{Catalog, Kind, NewObject, Refusal, Sums};
use super::load::entries;
use super::*;

pub(super) fn at(key: &str) -> Address {
    Address { bucket: Bucket::new("demo").unwrap(), key: key.to_owned() }
}

fn open(root: &Path) -> Catalog {
    let catalog = Catalog::open(Box::new(DirMedium::open(root).unwrap())).unwrap();
    catalog.make_bucket(&Bucket::new("demo").unwrap(), BucketRecord::new()).unwrap();
    catalog
}

pub(super) fn put_bytes(catalog: &Catalog, key: &str, bytes: &[u8]) -> Result<(), Refusal> {
    let mut blob = catalog.blob()?;
    blob.write(Bytes::copy_from_slice(bytes))?;
    blob.sync()?;
    catalog.put_object(&at(key), blob, new_object(bytes), false).map(drop)
}

fn new_object(bytes: &[u8]) -> NewObject {
    NewObject { sums: Sums::of(bytes), headers: Vec::new(), kind: Kind::Normal }
}

fn put(catalog: &Catalog, key: &str, text: &str) {
    put_bytes(catalog, key, text.as_bytes()).unwrap();
}

fn metas(root: &Path) -> Vec<PathBuf> {
    entries(&root.join("buckets/demo/meta")).unwrap().into_iter().map(|(_, path)| path).collect()
}

#[test]
fn a_kill_between_the_two_files_of_an_object_leaves_the_old_version() {
    let dir = tempfile::tempdir().unwrap();
    put(&open(dir.path()), "k", "old");
    let never_came = dir.path().join("buckets/demo/meta/k.12345.json");
    fs::write(&never_came, b"{ torn").unwrap();
    fs::write(dir.path().join("buckets/demo/meta/other.1.json"), b"").unwrap();
    let catalog = open(dir.path());
    assert_eq!(catalog.object(&at("k")).unwrap().bytes, 3);
    assert_eq!(catalog.open_object(&at("k")).unwrap().1.read(0, 9).unwrap(), "old");
    assert!(catalog.object(&at("other")).is_err());
    assert_eq!(metas(dir.path()).len(), 1);
}

#[test]
fn overwriting_leaves_one_pair_of_files_and_deleting_none() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = open(dir.path());
    for text in ["one", "two", "three"] {
        put(&catalog, "k", text);
    }
    assert_eq!(metas(dir.path()).len(), 1);
    assert_eq!(fs::read(dir.path().join("buckets/demo/objects/k")).unwrap(), b"three");
    catalog.delete_object(&at("k")).unwrap();
    assert_eq!(metas(dir.path()).len(), 0);
    assert_eq!(entries(&dir.path().join("incoming")).unwrap().len(), 0);
}

#[test]
fn a_file_changed_by_hand_is_not_shown_and_not_destroyed() {
    let dir = tempfile::tempdir().unwrap();
    put(&open(dir.path()), "k", "text");
    let data = dir.path().join("buckets/demo/objects/k");
    fs::write(&data, "edited").unwrap();
    File::options().write(true).open(&data).unwrap().set_modified(UNIX_EPOCH).unwrap();
    assert!(open(dir.path()).object(&at("k")).is_err());
    assert_eq!(fs::read(&data).unwrap(), b"edited");
    assert_eq!(metas(dir.path()).len(), 1);
}
