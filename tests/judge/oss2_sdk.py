"""The Python SDK oss2 as a judge of the embedded server.

Usage: oss2_sdk.py ENDPOINT REGION BUCKET VERSION   (VERSION: v1 or v4)
Key id and secret come from OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET. The server must refuse the third part of keys
that begin with broken/, once. Exits with a traceback at the first disagreement; prints "agreed" at the end.
"""

import hashlib
import os
import sys
import tempfile

import oss2
import requests

PART = 102_400


def auth(version, secret):
    make = oss2.AuthV4 if version == "v4" else oss2.Auth
    return make(os.environ["OSS_ACCESS_KEY_ID"], secret)


def bucket_of(endpoint, region, bucket, version, secret):
    return oss2.Bucket(auth(version, secret), endpoint, bucket, region=region, is_path_style=True)


def refusal(call):
    """The error that a call is refused with."""
    try:
        call()
    except oss2.exceptions.OssError as error:
        return error
    raise AssertionError("the call was not refused")


def md5(data):
    return hashlib.md5(data).hexdigest().upper()


def judge_objects(bucket, version):
    # No "..": urllib3 would resolve it before it signs and sends.
    key = f"{version}/dir/大文件 +&=?#%~//a.bin"
    data = os.urandom(300_000)
    put = bucket.put_object(key, data, headers={"Content-Type": "text/x-judge", "x-oss-meta-author": "judge"})
    assert put.etag == md5(data), put.etag
    got = bucket.get_object(key)
    assert got.read() == data and got.client_crc == got.server_crc == put.crc
    head = bucket.head_object(key)
    assert head.content_length == len(data) and head.content_type == "text/x-judge"
    assert head.headers["x-oss-meta-author"] == "judge" and head.object_type == "Normal"
    meta = bucket.get_object_meta(key)
    assert meta.content_length == len(data) and meta.etag == put.etag

    assert bucket.get_object(key, byte_range=(1000, 1999)).read() == data[1000:2000]
    assert bucket.get_object(key, byte_range=(None, 10)).read() == data[-10:]
    standard = {"x-oss-range-behavior": "standard"}
    assert bucket.get_object(key, byte_range=(299_990, 400_000), headers=standard).read() == data[299_990:]
    assert bucket.get_object(key, byte_range=(299_990, 400_000)).read() == data
    assert refusal(lambda: bucket.get_object(key, byte_range=(300_000, None), headers=standard)).code == "InvalidRange"
    assert refusal(lambda: bucket.get_object(key, headers={"If-Match": '"other"'})).status == 412
    assert refusal(lambda: bucket.get_object(key, headers={"If-None-Match": put.etag})).status == 304

    copy = bucket.copy_object(bucket.bucket_name, key, f"{version}/copy")
    assert copy.etag == put.etag
    copied = bucket.get_object(f"{version}/copy")
    assert copied.read() == data and copied.headers["x-oss-meta-author"] == "judge"

    capitals = {"x-oss-metadata-directive": "REPLACE", "x-oss-tagging-directive": "REPLACE"}
    bucket.copy_object(bucket.bucket_name, key, f"{version}/replaced",
                       headers={**capitals, "x-oss-meta-new": "1", "x-oss-tagging": "a=b+c"})
    replaced = bucket.head_object(f"{version}/replaced").headers
    assert replaced["x-oss-meta-new"] == "1" and "x-oss-meta-author" not in replaced
    assert bucket.get_object_tagging(f"{version}/replaced").tag_set.tagging_rule == {"a": "b c"}
    if_new = {"x-oss-copy-source-if-none-match": put.etag}
    assert refusal(lambda: bucket.copy_object(bucket.bucket_name, key, f"{version}/same", headers=if_new)).status == 304

    bucket.put_symlink(f"{version}/copy", f"{version}/link")
    assert bucket.get_symlink(f"{version}/link").target_key == f"{version}/copy"
    assert bucket.get_object(f"{version}/link").read() == data
    bucket.put_object_acl(f"{version}/copy", oss2.OBJECT_ACL_PUBLIC_READ)
    assert bucket.get_object_acl(f"{version}/copy").acl == oss2.OBJECT_ACL_PUBLIC_READ
    tags = oss2.models.TaggingRule()
    tags.add("key +-=._:/", "value 大")
    bucket.put_object_tagging(f"{version}/copy", oss2.models.Tagging(tags))
    assert bucket.get_object_tagging(f"{version}/copy").tag_set.tagging_rule == {"key +-=._:/": "value 大"}
    refused = oss2.models.TaggingRule()
    refused.add("key &", "value")
    error = refusal(lambda: bucket.put_object_tagging(f"{version}/copy", oss2.models.Tagging(refused)))
    assert error.status == 400, error
    bucket.delete_object_tagging(f"{version}/copy")
    assert bucket.get_object_tagging(f"{version}/copy").tag_set.tagging_rule == {}

    assert bucket.delete_object(key).status == 204
    assert not bucket.object_exists(key)
    assert refusal(lambda: bucket.get_object(key)).code == "NoSuchKey"


def judge_append(bucket, version):
    key = f"{version}/log"
    first, second = os.urandom(50_000), os.urandom(70_000)
    one = bucket.append_object(key, 0, first, init_crc=0)
    two = bucket.append_object(key, one.next_position, second, init_crc=one.crc)
    assert two.next_position == 120_000
    got = bucket.get_object(key)
    assert got.read() == first + second and got.object_type == "Appendable" and got.server_crc == two.crc
    error = refusal(lambda: bucket.append_object(key, 5, b"x"))
    assert error.code == "PositionNotEqualToLength" and error.next_position == 120_000


def judge_multipart(bucket, version):
    key = f"{version}/multi part+/x.bin"
    data = os.urandom(3 * PART + 77)
    pieces = [data[at:at + PART] for at in range(0, len(data), PART)]
    upload = bucket.init_multipart_upload(key, headers={"Content-Type": "text/x-multi"}).upload_id
    assert [u.upload_id for u in oss2.MultipartUploadIterator(bucket, prefix=f"{version}/")] == [upload]
    parts = []
    for number, piece in enumerate(pieces, start=1):
        done = bucket.upload_part(key, upload, number, piece)
        assert done.etag == md5(piece)
        parts.append(oss2.models.PartInfo(number, done.etag, size=len(piece), part_crc=done.crc))
    listed = list(oss2.PartIterator(bucket, key, upload, max_parts=2))
    facts = lambda all_of_them: [(p.part_number, p.size, p.etag) for p in all_of_them]
    assert facts(listed) == facts(parts)
    done = bucket.complete_multipart_upload(key, upload, parts)
    got = bucket.get_object(key)
    assert got.read() == data and got.server_crc == done.crc and got.content_type == "text/x-multi"

    copy = bucket.init_multipart_upload(f"{version}/by-copy").upload_id
    both = [(1, (0, 2 * PART - 1)), (2, (2 * PART, len(data) - 1))]
    parts = []
    for number, piece in both:
        done = bucket.upload_part_copy(bucket.bucket_name, key, piece, f"{version}/by-copy", copy, number)
        parts.append(oss2.models.PartInfo(number, done.etag))
    bucket.complete_multipart_upload(f"{version}/by-copy", copy, parts)
    assert bucket.get_object(f"{version}/by-copy").read() == data

    upload = bucket.init_multipart_upload(key).upload_id
    assert bucket.abort_multipart_upload(key, upload).status == 204
    assert refusal(lambda: bucket.abort_multipart_upload(key, upload)).code == "NoSuchUpload"


def judge_sequence(bucket, version):
    key, sequential = f"{version}/sequence", {"sequential": ""}
    data = os.urandom(2 * PART + 5)
    pieces = [data[at:at + PART] for at in range(0, len(data), PART)]
    upload = bucket.init_multipart_upload(key, params=sequential).upload_id
    skipped = refusal(lambda: bucket.upload_part(key, upload, 2, pieces[1]))
    assert isinstance(skipped, oss2.exceptions.PartNotSequential), skipped
    parts = [oss2.models.PartInfo(number, bucket.upload_part(key, upload, number, piece).etag)
             for number, piece in enumerate(pieces, start=1)]
    assert refusal(lambda: bucket.upload_part(key, upload, 1, pieces[0])).code == "PartAlreadyExist"
    done = bucket.complete_multipart_upload(key, upload, parts)
    text = "".join(part.etag for part in parts)
    assert done.etag == f"{md5(text.encode())}-{len(parts)}", done.etag
    got = bucket.get_object(key)
    assert got.read() == data and got.headers["Content-MD5"] == oss2.utils.content_md5(data)


def counted(bucket, name):
    """Counts the calls of a method from now on."""
    calls, method = [], getattr(bucket, name)

    def call(*arguments, **named):
        calls.append(arguments)
        return method(*arguments, **named)

    setattr(bucket, name, call)
    return calls


def judge_resumable(bucket, version, directory):
    key, data = f"broken/{version}", os.urandom(4 * PART + 99)
    source, target = os.path.join(directory, "source"), os.path.join(directory, "target")
    with open(source, "wb") as file:
        file.write(data)
    store = oss2.ResumableStore(root=directory)
    upload = lambda: oss2.resumable_upload(
        bucket, key, source, store=store, multipart_threshold=PART, part_size=PART, num_threads=1)
    assert refusal(upload).code == "InvalidAccessKeyId"
    calls = counted(bucket, "upload_part")
    upload()
    assert [call[2] for call in calls] == [3, 4, 5], calls
    assert bucket.get_object(key).read() == data

    store = oss2.ResumableDownloadStore(root=directory)
    download = lambda: oss2.resumable_download(
        bucket, key, target, store=store, multiget_threshold=PART, part_size=PART, num_threads=1)
    method, left = bucket.get_object, [2]

    def broken(*arguments, **named):
        left[0] -= 1
        if left[0] < 0:
            raise oss2.exceptions.RequestError(OSError("broken off"))
        return method(*arguments, **named)

    bucket.get_object = broken
    refusal(download)
    bucket.get_object = method
    calls = counted(bucket, "get_object")
    download()
    assert len(calls) == 3, calls
    with open(target, "rb") as file:
        assert file.read() == data


def judge_listing(bucket, version):
    names = [f"{version}/list/{name}" for name in ["a/1", "a/2", "b", "c/1", "d e", "é", "<&>"]]
    for name in names:
        bucket.put_object(name, b"x")
    prefix = f"{version}/list/"
    for iterator in [oss2.ObjectIterator, oss2.ObjectIteratorV2]:
        all_of_them = [item.key for item in iterator(bucket, prefix=prefix, max_keys=2)]
        assert all_of_them == sorted(names, key=str.encode), all_of_them
        folded = list(iterator(bucket, prefix=prefix, delimiter="/", max_keys=2))
        assert [item.key for item in folded if item.is_prefix()] == [prefix + "a/", prefix + "c/"]
        assert len(folded) == 6
    deleted = bucket.batch_delete_objects(names[:-1]).deleted_keys
    assert sorted(deleted) == sorted(names[:-1])
    assert [item.key for item in oss2.ObjectIterator(bucket, prefix=prefix)] == names[-1:]
    versions = bucket.list_object_versions(prefix=prefix).versions
    assert [(item.key, item.versionid, item.is_latest) for item in versions] == [(names[-1], "null", True)]
    assert bucket.get_object(names[-1], params={"versionId": "null"}).versionid == "null"
    assert bucket.get_bucket_versioning().status is None


def judge_urls(bucket, version):
    key, data = f"{version}/signed +大", os.urandom(1000)
    put = bucket.sign_url("PUT", key, 60, headers={"Content-Type": "text/plain"}, slash_safe=True)
    assert requests.put(put, data=data, headers={"Content-Type": "text/plain"}).status_code == 200
    assert requests.put(put, data=data, headers={"Content-Type": "text/other"}).status_code == 403
    got = requests.get(bucket.sign_url("GET", key, 60, params={"response-content-type": "x/y"}))
    assert got.content == data and got.headers["Content-Type"] == "x/y"
    assert b"SignatureDoesNotMatch" in requests.get(bucket.sign_url("GET", key, 60) + "&uploadId=1").content
    assert requests.get(bucket.sign_url("GET", key, 60).split("?")[0]).status_code == 403


def judge_buckets(bucket, service, version):
    name = f"judge-oss2-{version}"
    other = oss2.Bucket(bucket.auth, bucket.endpoint, name, region=bucket.region, is_path_style=True)
    other.create_bucket(oss2.BUCKET_ACL_PRIVATE)
    assert name in [item.name for item in oss2.BucketIterator(service, max_keys=1)]
    assert other.get_bucket_info().name == name
    assert other.get_bucket_location().location == "oss-cn-hangzhou"
    other.put_bucket_acl(oss2.BUCKET_ACL_PUBLIC_READ)
    assert other.get_bucket_acl().acl == oss2.BUCKET_ACL_PUBLIC_READ
    other.put_object("k", b"12345")
    assert other.get_bucket_stat().storage_size_in_bytes == 5
    assert refusal(other.delete_bucket).code == "BucketNotEmpty"
    other.delete_object("k")
    other.delete_bucket()
    assert refusal(other.get_bucket_info).code == "NoSuchBucket"


def main():
    endpoint, region, name, version = sys.argv[1:5]
    secret = os.environ["OSS_ACCESS_KEY_SECRET"]
    bucket = bucket_of(endpoint, region, name, version, secret)
    service = oss2.Service(auth(version, secret), endpoint, region=region, is_path_style=True)
    judge_buckets(bucket, service, version)
    judge_objects(bucket, version)
    judge_append(bucket, version)
    judge_multipart(bucket, version)
    judge_sequence(bucket, version)
    judge_listing(bucket, version)
    judge_urls(bucket, version)
    with tempfile.TemporaryDirectory() as directory:
        judge_resumable(bucket, version, directory)
    forger = bucket_of(endpoint, region, name, version, secret + "x")
    assert refusal(lambda: forger.put_object("forged", b"x")).code == "SignatureDoesNotMatch"
    assert not bucket.object_exists("forged")
    print("agreed")


main()
