use super::super::{Acl, Catalog, Kind, Last, NewObject, PageQuery, Refusal, Sums};
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

type Damage = (&'static str, fn(&Path));

/// What can have become of a file.
const DAMAGES: &[Damage] = &[
    ("truncated", |path| File::options().write(true).open(path).unwrap().set_len(20).unwrap()),
    ("empty", |path| fs::write(path, "").unwrap()),
    ("garbage", |path| fs::write(path, [0x80; 300]).unwrap()),
    ("another document", |path| fs::write(path, r#"{"key":"k"}"#).unwrap()),
    ("a link to itself, which cannot be read", |path| link(path, path)),
    ("a device", |path| link(Path::new("/dev/zero"), path)),
    ("a directory", |path| {
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
    }),
];

fn link(to: &Path, path: &Path) {
    fs::remove_file(path).unwrap();
    std::os::unix::fs::symlink(to, path).unwrap();
}

fn only(dir: &Path, beginning: &str) -> PathBuf {
    let all = entries(dir).unwrap().into_iter().filter(|(name, _)| name.starts_with(beginning));
    let [(_, path)] = all.collect::<Vec<_>>().try_into().unwrap();
    path
}

fn text_of(catalog: &Catalog, key: &str) -> Bytes {
    catalog.open_object(&at(key)).unwrap().1.read(0, 100).unwrap()
}

fn listed(catalog: &Catalog) -> Vec<String> {
    let query = PageQuery { prefix: String::new(), delimiter: String::new(), after: String::new(), max: 100 };
    let page = catalog.list_objects(&at("").bucket, &query).unwrap();
    page.items.iter().map(|object| object.key.clone()).collect()
}

/// Two objects, and the record of the first harmed.
fn harmed_object(damage: &Damage) -> (tempfile::TempDir, PathBuf, Catalog) {
    let dir = tempfile::tempdir().unwrap();
    let catalog = open(dir.path());
    put(&catalog, "a", "before");
    put(&catalog, "b", "other");
    drop(catalog);
    let record = only(&dir.path().join("buckets/demo/meta"), "a.");
    damage.1(&record);
    let catalog = open(dir.path());
    (dir, record, catalog)
}

#[test]
fn a_damaged_record_of_an_object_hides_that_object_alone_and_stays_where_it_is() {
    for damage in DAMAGES {
        let (dir, record, catalog) = harmed_object(damage);
        let name = damage.0;
        assert_eq!(text_of(&catalog, "b"), "other", "{name}");
        assert_eq!(listed(&catalog), ["b"], "{name}");
        assert!(matches!(catalog.object(&at("a")), Err(Refusal::DamagedObject)), "{name}");
        assert!(matches!(catalog.open_object(&at("a")), Err(Refusal::DamagedObject)), "{name}");
        assert!(matches!(catalog.appendable(&at("a"), 0), Err(Refusal::DamagedObject)), "{name}");
        let kept = catalog.put_object(&at("a"), catalog.blob().unwrap(), new_object(b""), true);
        assert!(matches!(kept, Err(Refusal::AlreadyExists)), "{name}");
        catalog.delete_object(&at("b")).unwrap();
        assert!(matches!(catalog.delete_bucket(&at("").bucket), Err(Refusal::BucketNotEmpty)), "{name}");
        assert!(fs::symlink_metadata(&record).is_ok(), "{name}");
        assert_eq!(fs::read(dir.path().join("buckets/demo/objects/a")).unwrap(), b"before", "{name}");
    }
}

#[test]
fn an_object_with_a_damaged_record_can_be_put_again_or_deleted() {
    for damage in DAMAGES {
        let (dir, _, catalog) = harmed_object(damage);
        put(&catalog, "a", "after");
        assert_eq!(text_of(&catalog, "a"), "after", "{}", damage.0);
        drop(catalog);
        assert_eq!(text_of(&open(dir.path()), "a"), "after", "{}", damage.0);
        let (dir, _, catalog) = harmed_object(damage);
        catalog.delete_object(&at("a")).unwrap();
        assert!(matches!(catalog.object(&at("a")), Err(Refusal::NoSuchKey)), "{}", damage.0);
        drop(catalog);
        let catalog = open(dir.path());
        assert!(matches!(catalog.object(&at("a")), Err(Refusal::NoSuchKey)), "{}", damage.0);
        catalog.delete_object(&at("b")).unwrap();
        catalog.delete_bucket(&at("").bucket).unwrap();
    }
}

#[test]
fn a_record_that_speaks_of_another_object_is_damaged() {
    let damage: Damage = ("copied", |record| {
        fs::copy(only(record.parent().unwrap(), "b."), record).unwrap();
    });
    let (_dir, _, catalog) = harmed_object(&damage);
    assert_eq!(text_of(&catalog, "b"), "other");
    assert!(matches!(catalog.object(&at("a")), Err(Refusal::DamagedObject)));
}

#[test]
fn a_damaged_record_of_a_bucket_costs_what_it_said_but_no_object() {
    for (name, damage) in DAMAGES {
        let dir = tempfile::tempdir().unwrap();
        let catalog = open(dir.path());
        catalog.amend_bucket(&at("").bucket, |record| record.acl = Acl::PublicReadWrite).unwrap();
        put(&catalog, "a", "text");
        drop(catalog);
        let record = dir.path().join("buckets/demo/bucket.json");
        damage(&record);
        let catalog = open(dir.path());
        assert_eq!(catalog.bucket(&at("").bucket).unwrap().acl, Acl::Private, "{name}");
        assert_eq!(text_of(&catalog, "a"), "text", "{name}");
        put(&catalog, "b", "more");
        assert!(fs::symlink_metadata(&record).is_ok(), "{name}");
        if fs::symlink_metadata(&record).unwrap().is_dir() {
            continue;
        }
        catalog.amend_bucket(&at("").bucket, |record| record.acl = Acl::PublicRead).unwrap();
        drop(catalog);
        assert_eq!(open(dir.path()).bucket(&at("").bucket).unwrap().acl, Acl::PublicRead, "{name}");
    }
}

#[test]
fn a_bucket_whose_directories_cannot_be_read_loses_nothing_and_keeps_no_other_from_being_served() {
    for gone in ["objects", "meta"] {
        let dir = tempfile::tempdir().unwrap();
        let catalog = open(dir.path());
        put(&catalog, "a", "text");
        let other = Address { bucket: Bucket::new("other").unwrap(), key: "k".to_owned() };
        catalog.make_bucket(&other.bucket, BucketRecord::new()).unwrap();
        drop(catalog);
        let bucket = dir.path().join("buckets/demo");
        fs::rename(bucket.join(gone), dir.path().join("elsewhere")).unwrap();
        let catalog = open(dir.path());
        assert!(matches!(catalog.object(&at("a")), Err(Refusal::DamagedObject)), "{gone}");
        assert!(matches!(catalog.object(&other), Err(Refusal::NoSuchKey)), "{gone}");
        assert!(catalog.delete_bucket(&at("").bucket).is_err(), "{gone}");
        drop(catalog);
        fs::rename(dir.path().join("elsewhere"), bucket.join(gone)).unwrap();
        assert_eq!(text_of(&open(dir.path()), "a"), "text", "{gone}");
    }
}

fn begin(catalog: &Catalog, key: &str) -> UploadId {
    let at = at(key);
    let (headers, initiated) = (Vec::new(), SystemTime::now());
    let upload =
        Upload { bucket: at.bucket, key: at.key, headers, forbid_overwrite: false, sequential: false, initiated };
    catalog.begin_upload(upload).unwrap()
}

fn put_part(catalog: &Catalog, key: &str, id: &UploadId, number: u32, bytes: &[u8]) {
    let mut blob = catalog.blob().unwrap();
    blob.write(Bytes::copy_from_slice(bytes)).unwrap();
    blob.sync().unwrap();
    catalog.put_part(&at(key), id, number, blob, Sums::of(bytes)).unwrap();
}

fn part_numbers(catalog: &Catalog, key: &str, id: &UploadId) -> Vec<u32> {
    catalog.list_parts(&at(key), id, 0, 100).unwrap().0.into_iter().map(|(number, _)| number).collect()
}

#[test]
fn a_damaged_record_of_an_upload_hides_that_upload_alone_and_it_can_be_aborted() {
    for (name, damage) in DAMAGES {
        let dir = tempfile::tempdir().unwrap();
        let catalog = open(dir.path());
        let (harmed, other) = (begin(&catalog, "a"), begin(&catalog, "b"));
        put_part(&catalog, "a", &harmed, 1, b"one");
        put_part(&catalog, "b", &other, 1, b"two");
        drop(catalog);
        let upload = dir.path().join("uploads").join(&harmed.0);
        damage(&upload.join("upload.json"));
        let catalog = open(dir.path());
        assert_eq!(part_numbers(&catalog, "b", &other), [1], "{name}");
        let uploads = catalog.list_uploads(&at("").bucket).unwrap();
        assert_eq!(uploads.into_iter().map(|(id, _)| id).collect::<Vec<_>>(), [other], "{name}");
        assert!(matches!(catalog.upload(&at("a"), &harmed), Err(Refusal::DamagedUpload)), "{name}");
        assert!(upload.exists(), "{name}");
        catalog.abort(&at("a"), &harmed).unwrap();
        assert!(!upload.exists(), "{name}");
        assert!(matches!(catalog.upload(&at("a"), &harmed), Err(Refusal::NoSuchUpload)), "{name}");
    }
}

#[test]
fn a_damaged_part_is_missing_from_its_upload_until_it_is_sent_again() {
    let by_length = DAMAGES.iter().filter(|(name, _)| *name != "another document" && *name != "garbage");
    for (name, damage) in by_length {
        let dir = tempfile::tempdir().unwrap();
        let catalog = open(dir.path());
        let id = begin(&catalog, "a");
        put_part(&catalog, "a", &id, 1, &[7; 100 << 10]);
        put_part(&catalog, "a", &id, 2, b"the last");
        drop(catalog);
        let part = only(&dir.path().join("uploads").join(&id.0), "00001.");
        damage(&part);
        let catalog = open(dir.path());
        assert_eq!(part_numbers(&catalog, "a", &id), [2], "{name}");
        assert!(fs::symlink_metadata(&part).is_ok(), "{name}");
        // Its name says what is in it: other bytes have another name, and are in nobody's way.
        put_part(&catalog, "a", &id, 1, &[8; 100 << 10]);
        let last = Last { acl: None, keep: false };
        assert_eq!(catalog.complete(&at("a"), &id, None, last).unwrap().bytes, (100 << 10) + 8, "{name}");
    }
}

#[test]
fn files_and_directories_of_strangers_stay_and_harm_nothing() {
    let dir = tempfile::tempdir().unwrap();
    put(&open(dir.path()), "a", "text");
    let of_strangers = [
        "buckets/Not a bucket/file",
        "buckets/stranger",
        "buckets/empty-one/file",
        "uploads/file",
        "uploads/directory/file",
        "buckets/demo/file",
        "buckets/demo/objects/file",
        "buckets/demo/objects/directory/file",
        "buckets/demo/meta/file",
        "buckets/demo/meta/gone.1.json/file",
    ];
    for name in of_strangers {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "precious").unwrap();
    }
    fs::remove_dir_all(dir.path().join("incoming")).unwrap();
    fs::write(dir.path().join("incoming"), "precious").unwrap();
    let catalog = open(dir.path());
    assert_eq!(listed(&catalog), ["a"]);
    assert_eq!(text_of(&catalog, "a"), "text");
    put(&catalog, "b", "more");
    // As a server is told to make it at its start.
    catalog.make_bucket(&Bucket::new("stranger").unwrap(), BucketRecord::new()).unwrap();
    assert!(matches!(catalog.object(&at("directory")), Err(Refusal::DamagedObject)));
    catalog.delete_object(&at("a")).unwrap();
    catalog.delete_object(&at("b")).unwrap();
    assert!(matches!(catalog.delete_bucket(&at("").bucket), Err(Refusal::BucketNotEmpty)));
    for name in of_strangers {
        assert_eq!(fs::read(dir.path().join(name)).unwrap(), b"precious", "{name}");
    }
    assert_eq!(fs::read(only(dir.path(), "incoming.")).unwrap(), b"precious");
}
