"""The Python SDK alibabacloud-oss-v2 as a judge of the embedded server.

Usage: oss_v2_sdk.py ENDPOINT REGION BUCKET VERSION   (VERSION: v1 or v4)
Key id and secret come from OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET. The server must refuse the third part of keys
that begin with broken/, once. Exits with a traceback at the first disagreement; prints "agreed" at the end.
"""

import base64
import hashlib
import os
import sys
import tempfile

import alibabacloud_oss_v2 as oss
import requests
from alibabacloud_oss_v2 import crc
from alibabacloud_oss_v2.types import OperationInput

PART = 102_400


def client(endpoint, region, version, secret):
    provider = oss.credentials.StaticCredentialsProvider(os.environ["OSS_ACCESS_KEY_ID"], secret)
    config = oss.config.load_default()
    config.credentials_provider = provider
    config.endpoint = endpoint
    config.region = region
    config.signature_version = version
    config.use_path_style = True
    config.retry_max_attempts = 1
    return oss.Client(config)


def code_of(call):
    """The error code that a call is refused with."""
    try:
        call()
    except oss.exceptions.OperationError as error:
        return error.unwrap().code
    raise AssertionError("the call was not refused")


def crc64(data):
    digest = crc.Crc64(0)
    digest.update(data)
    return str(digest.sum64())


def judge_objects(judge, bucket, version):
    # No "..": urllib3 would resolve it before it signs and sends.
    key = f"{version}/dir/大文件 +&=?#%~//a.bin"
    data = os.urandom(300_000)
    put = judge.put_object(oss.PutObjectRequest(
        bucket=bucket, key=key, body=data, content_type="text/x-judge", metadata={"author": "judge"}))
    assert put.status_code == 200
    assert put.etag.strip('"') == hashlib.md5(data).hexdigest().upper(), put.etag
    assert put.hash_crc64 == crc64(data), put.hash_crc64

    head = judge.head_object(oss.HeadObjectRequest(bucket=bucket, key=key))
    assert head.content_length == len(data)
    assert head.content_type == "text/x-judge"
    assert head.metadata["author"] == "judge"
    assert head.object_type == "Normal"

    whole = judge.get_object(oss.GetObjectRequest(bucket=bucket, key=key))
    assert whole.body.content == data
    part = judge.get_object(oss.GetObjectRequest(
        bucket=bucket, key=key, range_header="bytes=1000-1999", range_behavior="standard"))
    assert part.status_code == 206
    assert part.content_range == f"bytes 1000-1999/{len(data)}", part.content_range
    assert part.body.content == data[1000:2000]

    judge.put_object(oss.PutObjectRequest(bucket=bucket, key=f"{version}/b", body=b"b"))
    listed = list(judge.list_objects_v2_paginator(limit=1).iter_page(
        oss.ListObjectsV2Request(bucket=bucket, prefix=f"{version}/")))
    names = [item.key for page in listed for item in page.contents or []]
    assert names == sorted([f"{version}/b", key], key=lambda name: name.encode()), names

    assert judge.delete_object(oss.DeleteObjectRequest(bucket=bucket, key=key)).status_code == 204
    assert code_of(lambda: judge.head_object(oss.HeadObjectRequest(bucket=bucket, key=key))) == "NoSuchKey"
    assert code_of(lambda: judge.get_object(oss.GetObjectRequest(bucket=bucket, key=key))) == "NoSuchKey"


def judge_multipart(judge, bucket, version):
    key = f"{version}/multi part+/x.bin"
    data = os.urandom(3 * 102_400 + 77)
    pieces = [data[at:at + 102_400] for at in range(0, len(data), 102_400)]
    upload = judge.initiate_multipart_upload(oss.InitiateMultipartUploadRequest(
        bucket=bucket, key=key, content_type="text/x-multi", metadata={"a": "b"}))
    assert upload.key == key
    parts = []
    for number, piece in reversed(list(enumerate(pieces, start=1))):
        part = judge.upload_part(oss.UploadPartRequest(
            bucket=bucket, key=key, upload_id=upload.upload_id, part_number=number, body=piece))
        assert part.hash_crc64 == crc64(piece)
        parts.append(oss.UploadPart(part_number=number, etag=part.etag))
    listed = [part for page in judge.list_parts_paginator(limit=2).iter_page(oss.ListPartsRequest(
        bucket=bucket, key=key, upload_id=upload.upload_id)) for part in page.parts or []]
    assert [(p.part_number, p.size) for p in listed] == [(n, len(x)) for n, x in enumerate(pieces, start=1)]
    assert [str(p.hash_crc64) for p in listed] == [crc64(piece) for piece in pieces]
    uploads = judge.list_multipart_uploads(oss.ListMultipartUploadsRequest(bucket=bucket))
    assert [u.upload_id for u in uploads.uploads] == [upload.upload_id]
    done = judge.complete_multipart_upload(oss.CompleteMultipartUploadRequest(
        bucket=bucket, key=key, upload_id=upload.upload_id,
        complete_multipart_upload=oss.CompleteMultipartUpload(parts=sorted(parts, key=lambda p: p.part_number))))
    assert done.hash_crc64 == crc64(data), done.hash_crc64
    got = judge.get_object(oss.GetObjectRequest(bucket=bucket, key=key))
    assert got.body.content == data
    assert got.object_type == "Multipart" and got.metadata["a"] == "b"

    upload = judge.initiate_multipart_upload(oss.InitiateMultipartUploadRequest(bucket=bucket, key=key))
    abort = oss.AbortMultipartUploadRequest(bucket=bucket, key=key, upload_id=upload.upload_id)
    assert judge.abort_multipart_upload(abort).status_code == 204
    assert code_of(lambda: judge.abort_multipart_upload(abort)) == "NoSuchUpload"


def judge_sequence(judge, bucket, version):
    """Everything that the uploader of the Go SDK puts `sequential` on."""
    key, data = f"{version}/sequence", os.urandom(PART + 7)
    named = {"bucket": bucket, "key": key, "parameters": {"sequential": ""}}
    upload = judge.initiate_multipart_upload(oss.InitiateMultipartUploadRequest(**named)).upload_id
    send = lambda number, body: judge.upload_part(oss.UploadPartRequest(
        upload_id=upload, part_number=number, body=body, **named))
    assert code_of(lambda: send(2, data[PART:])) == "PartNotSequential"
    parts = [oss.UploadPart(part_number=number, etag=send(number, body).etag)
             for number, body in [(1, data[:PART]), (2, data[PART:])]]
    assert len(judge.list_parts(oss.ListPartsRequest(upload_id=upload, **named)).parts) == 2
    judge.complete_multipart_upload(oss.CompleteMultipartUploadRequest(
        upload_id=upload, complete_multipart_upload=oss.CompleteMultipartUpload(parts=parts), **named))
    got = judge.get_object(oss.GetObjectRequest(bucket=bucket, key=key))
    assert got.body.content == data
    assert got.content_md5 == base64.b64encode(hashlib.md5(data).digest()).decode(), got.content_md5
    upload = judge.initiate_multipart_upload(oss.InitiateMultipartUploadRequest(**named)).upload_id
    judge.abort_multipart_upload(oss.AbortMultipartUploadRequest(upload_id=upload, **named))


def judge_names(judge, bucket, version):
    """A blank that is written as a plus, as older clients do, and links with metadata."""
    for name in ["a b", "a+b"]:
        judge.put_object(oss.PutObjectRequest(bucket=bucket, key=f"{version}/{name}", body=name.encode()))
    for written, body in [("a+b", b"a b"), ("a%20b", b"a b"), ("a%2Bb", b"a+b")]:
        judge.invoke_operation(OperationInput(
            op_name="CopyObject", method="PUT", bucket=bucket, key=f"{version}/named",
            headers={"x-oss-copy-source": f"/{bucket}/{version}/{written}"}))
        judge.put_symlink(oss.PutSymlinkRequest(
            bucket=bucket, key=f"{version}/link", symlink_target=f"{version}/{written}", metadata={"who": "judge"}))
        for key in ["named", "link"]:
            got = judge.get_object(oss.GetObjectRequest(bucket=bucket, key=f"{version}/{key}"))
            assert got.body.content == body, (key, written)
    assert judge.get_symlink(oss.GetSymlinkRequest(bucket=bucket, key=f"{version}/link")).metadata == {"who": "judge"}
    plain = oss.GetSymlinkRequest(bucket=bucket, key=f"{version}/named")
    assert code_of(lambda: judge.get_symlink(plain)) == "NotSymlink"


def judge_managers(judge, bucket, version, directory):
    """Uploader, Downloader and Copier, each broken off once where it has a checkpoint."""
    key, data = f"broken/{version}", os.urandom(4 * PART + 99)
    source, target = os.path.join(directory, "source"), os.path.join(directory, "target")
    with open(source, "wb") as file:
        file.write(data)
    uploader = judge.uploader(part_size=PART, parallel_num=1, enable_checkpoint=True, checkpoint_dir=directory + "/")
    upload = lambda: uploader.upload_file(oss.PutObjectRequest(bucket=bucket, key=key), source)
    try:
        upload()
        raise AssertionError("the upload was not broken off")
    except oss.uploader.UploadError as error:
        assert error.unwrap().unwrap().code == "InvalidAccessKeyId", error
    sent, method = [], judge.upload_part
    judge.upload_part = lambda request, **named: sent.append(request.part_number) or method(request, **named)
    assert upload().hash_crc64 == crc64(data)
    judge.upload_part = method
    assert sent == [3, 4, 5], sent

    downloader = judge.downloader(part_size=PART, parallel_num=1, enable_checkpoint=True, checkpoint_dir=directory + "/")
    download = lambda: downloader.download_file(oss.GetObjectRequest(bucket=bucket, key=key), target)
    got, method = [], judge.get_object

    def broken(request, **named):
        if len(got) == 2:
            raise OSError("broken off")
        got.append(request.range_header)
        return method(request, **named)

    judge.get_object = broken
    try:
        download()
        raise AssertionError("the download was not broken off")
    except oss.downloader.DownloadError:
        pass
    begun = list(got)
    got.clear()
    judge.get_object = lambda request, **named: got.append(request.range_header) or method(request, **named)
    download()
    judge.get_object = method
    assert len(begun) == 2 and len(got) == 3, (begun, got)
    with open(target, "rb") as file:
        assert file.read() == data

    judge.put_object_tagging(oss.PutObjectTaggingRequest(bucket=bucket, key=key, tagging=oss.Tagging(
        tag_set=oss.TagSet(tags=[oss.Tag(key="a", value="b c")]))))
    copier = judge.copier(part_size=PART, parallel_num=2, multipart_copy_threshold=1, disable_shallow_copy=True)
    for to, options in [("whole", {"multipart_copy_threshold": 1 << 30}), ("parts", {})]:
        copier.copy(oss.CopyObjectRequest(
            bucket=bucket, key=f"{version}/{to}", source_bucket=bucket, source_key=key), **options)
        copied = judge.get_object(oss.GetObjectRequest(bucket=bucket, key=f"{version}/{to}"))
        assert copied.body.content == data and copied.tagging_count == 1, to
    assert copied.object_type == "Multipart"


def judge_append_file(judge, bucket, version):
    key = f"{version}/appended"
    with judge.append_file(bucket=bucket, key=key) as file:
        file.write(b"first,")
        file.write(b"second")
    with judge.append_file(bucket=bucket, key=key) as file:
        assert file.tell() == 12
        file.write(b",third")
    got = judge.get_object(oss.GetObjectRequest(bucket=bucket, key=key))
    assert got.body.content == b"first,second,third" and got.object_type == "Appendable"
    with judge.open_file(bucket=bucket, key=key) as file:
        file.seek(6)
        assert file.read(6) == b"second"


def judge_presign(judge, bucket, version):
    key, data = f"{version}/signed +大", os.urandom(1000)
    put = judge.presign(oss.PutObjectRequest(bucket=bucket, key=key, content_type="text/plain"))
    assert requests.put(put.url, data=data, headers=put.signed_headers or {"Content-Type": "text/plain"}).status_code == 200
    get = judge.presign(oss.GetObjectRequest(bucket=bucket, key=key))
    assert requests.get(get.url).content == data
    assert requests.get(get.url.replace("Signature=", "Signature=x").replace("signature=", "signature=0")).status_code == 403


def judge_listings(judge, bucket, version):
    names = [f"{version}/list/{name}" for name in ["a/1", "a/2", "b", "c/1", "d e", "é", "<&>"]]
    for name in names:
        judge.put_object(oss.PutObjectRequest(bucket=bucket, key=name, body=b"x"))
    prefix = f"{version}/list/"
    for paginator, request in [
        (judge.list_objects_paginator(limit=2), oss.ListObjectsRequest(bucket=bucket, prefix=prefix)),
        (judge.list_objects_v2_paginator(limit=2), oss.ListObjectsV2Request(bucket=bucket, prefix=prefix)),
    ]:
        pages = list(paginator.iter_page(request))
        found = [item.key for page in pages for item in page.contents or []]
        assert found == sorted(names, key=str.encode) and len(pages) == 4, (found, len(pages))
    folded = list(judge.list_objects_v2_paginator(limit=2).iter_page(
        oss.ListObjectsV2Request(bucket=bucket, prefix=prefix, delimiter="/")))
    assert [p.prefix for page in folded for p in page.common_prefixes or []] == [prefix + "a/", prefix + "c/"]
    buckets = [item.name for page in judge.list_buckets_paginator(limit=1).iter_page(oss.ListBucketsRequest())
               for item in page.buckets or []]
    assert bucket in buckets and f"judge-{version}" in buckets, buckets
    deleted = judge.delete_multiple_objects(oss.DeleteMultipleObjectsRequest(
        bucket=bucket, encoding_type="url", objects=[oss.DeleteObject(name) for name in names]))
    assert sorted(item.key for item in deleted.deleted_objects) == sorted(names)
    left = judge.list_objects_v2(oss.ListObjectsV2Request(bucket=bucket, prefix=prefix))
    assert left.key_count == 0
    judge.put_object(oss.PutObjectRequest(bucket=bucket, key=f"{prefix}x", body=b"x"))
    versions = judge.list_object_versions(oss.ListObjectVersionsRequest(bucket=bucket, prefix=prefix)).version
    assert [(item.key, item.version_id, item.is_latest) for item in versions] == [(f"{prefix}x", "null", True)]
    judge.delete_object(oss.DeleteObjectRequest(bucket=bucket, key=f"{prefix}x", version_id="null"))
    assert not judge.is_object_exist(bucket, f"{prefix}x")


def judge_bucket(judge, bucket, version):
    assert judge.put_bucket(oss.PutBucketRequest(bucket=f"judge-{version}")).status_code == 200
    info = judge.get_bucket_info(oss.GetBucketInfoRequest(bucket=f"judge-{version}"))
    assert info.bucket_info.name == f"judge-{version}" and info.bucket_info.access_monitor == "Disabled"
    look = lambda name: judge.invoke_operation(OperationInput(op_name="HeadBucket", method="HEAD", bucket=name))
    assert look(f"judge-{version}").headers["x-oss-storage-class"] == "Standard"
    assert code_of(lambda: look("judge-none")) == "NoSuchBucket"
    other = oss.CreateBucketConfiguration(storage_class="IA")
    again = oss.PutBucketRequest(bucket=f"judge-{version}", create_bucket_configuration=other)
    assert code_of(lambda: judge.put_bucket(again)) == "BucketAlreadyExists"
    status = judge.get_bucket_versioning(oss.GetBucketVersioningRequest(bucket=f"judge-{version}")).version_status
    assert status is None, status
    unknown = OperationInput(op_name="DeleteBucket", method="DELETE", bucket=f"judge-{version}",
                             parameters={"overwriteConfig": ""}, op_metadata={"sub-resource": ["overwriteConfig"]})
    assert code_of(lambda: judge.invoke_operation(unknown)) == "NotImplemented"
    assert judge.is_bucket_exist(f"judge-{version}")


def main():
    endpoint, region, bucket, version = sys.argv[1:5]
    secret = os.environ["OSS_ACCESS_KEY_SECRET"]
    judge = client(endpoint, region, version, secret)
    judge_bucket(judge, bucket, version)
    judge_objects(judge, bucket, version)
    judge_multipart(judge, bucket, version)
    judge_sequence(judge, bucket, version)
    judge_names(judge, bucket, version)
    judge_listings(judge, bucket, version)
    judge_append_file(judge, bucket, version)
    judge_presign(judge, bucket, version)
    with tempfile.TemporaryDirectory() as directory:
        judge_managers(judge, bucket, version, directory)
    forger = client(endpoint, region, version, secret + "x")
    put = oss.PutObjectRequest(bucket=bucket, key="forged", body=b"x")
    assert code_of(lambda: forger.put_object(put)) == "SignatureDoesNotMatch"
    assert code_of(lambda: judge.head_object(oss.HeadObjectRequest(bucket=bucket, key="forged"))) == "NoSuchKey"
    print("agreed")


main()
