"""What a request to S3 asks of the policies: operation, actions, resources and condition keys."""

from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from support.s3_requests import BACKEND, HOST, s3_request, s3_resource

from broker.authz.s3.requests import read_s3_request
from broker.authz.s3.target import bucket_of
from iam.errors import AccessDenied, InvalidBucketName, InvalidRequest, InvalidURI, NotImplementedHere, ServiceError

PLAIN = s3_resource()
RESIGNED = s3_resource(backend=BACKEND)
OPEN = s3_resource(policy_writes=True)


def read(method, uri, /, resource=PLAIN, **headers):
    return read_s3_request(resource, s3_request(method, uri, **headers))


def asked(method, uri, /, resource=PLAIN, **headers):
    """Return the permissions as texts such as ``GetObject bucket/key``."""
    found = read(method, uri, resource, **headers)
    return [f"{one.action[3:]} {one.resource.removeprefix('arn:aws:s3:::')}" for one in found.permissions]


def on_every(method, uri, /, resource=PLAIN, **headers):
    found = read(method, uri, resource, **headers)
    return [f"{one.action[3:]} {one.resource.removeprefix('arn:aws:s3:::')}" for one in found.every_resource]


def keys(method, uri, /, resource=PLAIN, action="", **headers):
    permissions = read(method, uri, resource, **headers).permissions
    return next(one.keys for one in permissions if not action or one.action == f"s3:{action}")


# --- operations -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "uri", "operation", "permissions"),
    [
        ("GET", "/", "ListBuckets", ["ListAllMyBuckets *"]),
        ("GET", "/b-1", "ListObjects", ["ListBucket b-1"]),
        ("GET", "/b-1/", "ListObjects", ["ListBucket b-1"]),
        ("GET", "/b-1?list-type=2&prefix=a&x-id=ListObjectsV2", "ListObjectsV2", ["ListBucket b-1"]),
        ("GET", "/b-1?versions&prefix=", "ListObjectVersions", ["ListBucketVersions b-1"]),
        ("GET", "/b-1?uploads", "ListMultipartUploads", ["ListBucketMultipartUploads b-1"]),
        ("HEAD", "/b-1", "HeadBucket", ["ListBucket b-1"]),
        ("PUT", "/b-1", "CreateBucket", ["CreateBucket b-1"]),
        ("DELETE", "/b-1", "DeleteBucket", ["DeleteBucket b-1"]),
        ("GET", "/b-1?location", "GetBucketLocation", ["GetBucketLocation b-1"]),
        ("GET", "/b-1?analytics&id=1", "GetBucketAnalyticsConfiguration", ["GetAnalyticsConfiguration b-1"]),
        ("GET", "/b-1?analytics", "ListBucketAnalyticsConfigurations", ["GetAnalyticsConfiguration b-1"]),
        ("GET", "/b-1/k", "GetObject", ["GetObject b-1/k"]),
        ("GET", "/b-1/k?versionId=null", "GetObject", ["GetObjectVersion b-1/k"]),
        ("GET", "/b-1/k?partNumber=1&response-content-type=a%2Fb", "GetObject", ["GetObject b-1/k"]),
        ("HEAD", "/b-1/k", "HeadObject", ["GetObject b-1/k"]),
        ("HEAD", "/b-1/k?versionId=3", "HeadObject", ["GetObjectVersion b-1/k"]),
        ("GET", "/b-1/k?uploadId=u", "ListParts", ["ListMultipartUploadParts b-1/k"]),
        ("GET", "/b-1/k?tagging", "GetObjectTagging", ["GetObjectTagging b-1/k"]),
        ("GET", "/b-1/k?tagging&versionId=3", "GetObjectTagging", ["GetObjectVersionTagging b-1/k"]),
        ("GET", "/b-1/k?acl", "GetObjectAcl", ["GetObjectAcl b-1/k"]),
        ("GET", "/b-1/k?attributes", "GetObjectAttributes", ["GetObjectAttributes b-1/k", "GetObject b-1/k"]),
        (
            "GET",
            "/b-1/k?attributes&versionId=3",
            "GetObjectAttributes",
            ["GetObjectVersionAttributes b-1/k", "GetObjectVersion b-1/k"],
        ),
        ("PUT", "/b-1/k", "PutObject", ["PutObject b-1/k"]),
        ("PUT", "/b-1/k?uploadId=u&partNumber=1", "UploadPart", ["PutObject b-1/k"]),
        ("POST", "/b-1/k?uploads", "CreateMultipartUpload", ["PutObject b-1/k"]),
        ("POST", "/b-1/k?uploadId=u", "CompleteMultipartUpload", ["PutObject b-1/k"]),
        ("POST", "/b-1/k?select&select-type=2", "SelectObjectContent", ["GetObject b-1/k"]),
        ("DELETE", "/b-1/k?uploadId=u", "AbortMultipartUpload", ["AbortMultipartUpload b-1/k"]),
        ("DELETE", "/b-1/k", "DeleteObject", ["DeleteObject b-1/k"]),
        ("DELETE", "/b-1/k?versionId=3", "DeleteObject", ["DeleteObjectVersion b-1/k"]),
        ("PUT", "/b-1/k?retention", "PutObjectRetention", ["PutObjectRetention b-1/k"]),
        ("PUT", "/b-1/k?legal-hold", "PutObjectLegalHold", ["PutObjectLegalHold b-1/k"]),
        ("PUT", "/b-1?object-lock", "PutObjectLockConfiguration", ["PutBucketObjectLockConfiguration b-1"]),
        ("DELETE", "/b-1?website", "DeleteBucketWebsite", ["DeleteBucketWebsite b-1"]),
    ],
)
def test_a_request_needs_the_actions_of_aws(method, uri, operation, permissions):
    assert read(method, uri).operation == operation
    assert asked(method, uri) == permissions


@pytest.mark.parametrize(
    ("method", "uri"),
    [
        ("POST", "/"),  # the store's own STS and IAM
        ("POST", "/?Action=AssumeRole"),
        ("POST", "/b-1"),  # a browser's form
        ("POST", "/b-1/k"),
        ("OPTIONS", "/b-1/k"),
        ("PATCH", "/b-1/k"),
        ("get", "/b-1/k"),
        ("GET", "/b-1?acl&policy"),
        ("GET", "/b-1?acl&location"),
        ("DELETE", "/b-1?tagging&lifecycle"),
        ("GET", "/b-1/k?acl&tagging"),
        ("DELETE", "/b-1/k?tagging&uploadId=u"),
        ("PUT", "/b-1/k?uploadId=u"),
        ("PUT", "/b-1/k?partNumber=1"),
        ("PUT", "/b-1/k?append&position=0"),  # Ceph RGW
        ("GET", "/b-1?usage"),
        ("GET", "/?usage"),
        ("GET", "/b-1?list-type=1"),
        ("GET", "/b-1?list-type"),
        ("GET", "/b-1?list-type=2&marker=x"),
        ("GET", "/b-1?acl=x"),
        ("GET", "/b-1?ACL"),
        ("GET", "/b-1?session"),
        ("GET", "/b-1?mdsearch"),
        ("GET", "/b-1/k?layout"),
        ("GET", "/b-1/k?torrent&versionId=3"),
        ("GET", "/b-1/k?rgwx-uid=root"),
        ("GET", "/b-1/k?uid=root"),
        ("GET", "/b-1/k?versionId="),
        ("DELETE", "/b-1/k?versionId"),
        ("DELETE", "/b-1/k?uploadId="),
        ("GET", "/b-1?metrics&id="),
        ("DELETE", "/b-1?versioning"),
        ("POST", "/b-1?metadataTable"),
        ("PUT", "/b-1/k?renameObject"),
        ("GET", "/b-1?prefix=a&"),
        ("GET", "/b-1/k?AWSAccessKeyId=x&Signature=y&Expires=1"),
    ],
)
def test_what_is_not_exactly_one_operation_is_refused(method, uri):
    with pytest.raises(NotImplementedHere):
        read(method, uri)


@pytest.mark.parametrize(
    "uri", ["/b-1/k?versionId=1&versionId=2", "/b-1/k?acl&acl", "/b-1/k?a=1&A=2", "/b-1?tagging&&"]
)
def test_a_parameter_given_twice_is_refused(uri):
    with pytest.raises((InvalidRequest, NotImplementedHere)):
        read("GET", uri)


@pytest.mark.parametrize(
    "uri", ["/b-1?prefix=a;acl", "/b-1?prefix=%zz", "/b-1?prefix=%ff", "/b-1?prefix=a#b", "/b-1?x y"]
)
def test_a_query_that_programs_read_differently_is_refused(uri):
    with pytest.raises(InvalidURI):
        read("GET", uri)


# --- bucket and key ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        ("a%20b/%C3%BC%2B%252F~%27%28%29.txt", "a b/ü+%2F~'().txt"),
        ("a+b", "a+b"),
        ("a//b/", "a//b/"),
        ("/a", "/a"),
        ("a/b/../../k", "a/b/../../k"),
        ("a/%2e%2e/x", "a/../x"),
        ("a%2Fb", "a/b"),
        ("%2525", "%25"),
        ("*?".replace("?", "%3F"), "*?"),
        ("${aws:username}", "${aws:username}"),
        ("Ã¼", "ü"),
        ("a;b=c&d,e:f@g!h$i(j)", "a;b=c&d,e:f@g!h$i(j)"),
    ],
)
def test_a_key_is_decoded_exactly_once_and_stands_for_itself(raw, key):
    assert asked("GET", f"/b-1/{raw}") == [f"GetObject b-1/{key}"]


@given(key=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))
def test_every_encoded_key_is_read_as_it_was_written(key):
    assume(".." not in key.split("/"))
    found = read("GET", f"/b-1/{quote(key, safe='/')}")
    assert found.permissions[0].resource == f"arn:aws:s3:::b-1/{key}"
    hosted = read_s3_request(PLAIN, s3_request("GET", f"/{quote(key, safe='/')}", host=f"b-1.{HOST}"))
    assert hosted.permissions[0].resource == f"arn:aws:s3:::b-1/{key}"


@pytest.mark.parametrize("raw", ["a#b", "a b", "a\\b", "a\nb", "a%zz", "a%", "%ff", "a%00b", "\xff"])
def test_a_path_that_programs_read_differently_is_refused(raw):
    with pytest.raises(InvalidURI):
        read("GET", f"/b-1/{raw}")


@pytest.mark.parametrize("raw", ["..", "../b-2/k", "%2e%2e/b-2/k", "a/../../b-2/k", "a//../../k", "./../k", "/../k"])
def test_a_key_that_climbs_above_its_bucket_is_refused(raw):
    with pytest.raises(InvalidURI, match="climbs above"):
        read("GET", f"/b-1/{raw}")
    with pytest.raises(InvalidURI, match="climbs above"):
        read_s3_request(PLAIN, s3_request("GET", f"/{raw}", host=f"b-1.{HOST}"))
    with pytest.raises(InvalidURI, match="climbs above"):
        read("PUT", "/b-1/k", x_amz_copy_source=f"b-1/{raw}")


@pytest.mark.parametrize("path", ["", "b-1/k", "*", "http://s3.example.com/b-1/k"])
def test_a_path_that_does_not_begin_with_a_slash_is_refused(path):
    with pytest.raises(InvalidURI):
        read("GET", path)


@pytest.mark.parametrize(
    "bucket",
    [
        "",
        "..",
        ".",
        "b",
        "B-1",
        "tenant:b-1",
        "tenant$b-1",
        "b_1",
        "b..1",
        "-b1",
        "b1-",
        "a" * 64,
        "b-1%2Fk",
        ".minio.sys",
    ],
)
def test_a_name_that_no_bucket_has_is_refused(bucket):
    with pytest.raises(InvalidBucketName):
        read("GET", f"/{bucket}/k")


@pytest.mark.parametrize(
    "path", ["/admin/user", "/admin", "/minio/admin/v3/info", "/swift/v1", "/auth", "/%61dmin/user"]
)
@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE"])
def test_the_stores_own_paths_are_refused(method, path):
    with pytest.raises(ServiceError) as refused:
        read(method, path)
    assert isinstance(refused.value, AccessDenied)


def test_a_bucket_by_host_name():
    hosted = read_s3_request(PLAIN, s3_request("GET", "/other-bucket/k", host=f"b-1.{HOST}"))
    assert hosted.permissions[0].resource == "arn:aws:s3:::b-1/other-bucket/k"
    upper = read_s3_request(PLAIN, s3_request("HEAD", "/", host=f"B-1.{HOST.upper()}:80"))
    assert (upper.operation, dict(upper.parameters)) == ("HeadBucket", {"bucketName": "b-1"})


@pytest.mark.parametrize(
    "host", ["", "example.com", f"a.b-1.{HOST}", f"{HOST}:8080", f"evil-{HOST}", f"b-1.{HOST}.evil.org"]
)
def test_another_host_is_refused(host):
    with pytest.raises(InvalidURI):
        read_s3_request(PLAIN, s3_request("GET", "/b-1/k", host=host))


@pytest.mark.parametrize(
    ("arn", "bucket"),
    [
        ("arn:aws:s3:::b-1", "b-1"),
        ("arn:aws:s3:::b-1/", "b-1"),
        ("arn:aws:s3:::b-1/a/b", "b-1"),
        ("arn:aws:s3:::", ""),
        ("*", ""),
        ("arn:aws:execute-api:us-east-1:1:x/y", ""),
    ],
)
def test_the_bucket_of_a_permission(arn, bucket):
    assert bucket_of(arn) == bucket


@pytest.mark.parametrize("bucket", ["admin", "minio"])
def test_a_reserved_name_is_refused_as_host_too(bucket):
    with pytest.raises(AccessDenied):
        read_s3_request(PLAIN, s3_request("GET", "/user", host=f"{bucket}.{HOST}"))


# --- headers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "actions"),
    [
        ({"x_amz_tagging": "a=b"}, ["PutObject", "PutObjectTagging"]),
        ({"x_amz_acl": "private"}, ["PutObject", "PutObjectAcl"]),
        ({"x_amz_acl": ""}, ["PutObject"]),
        ({"x_amz_acl": "public-read", "x_amz_grant_read": "id=x"}, ["PutObject", "PutObjectAcl"]),
        ({"x_amz_object_lock_mode": "GOVERNANCE"}, ["PutObject", "PutObjectRetention"]),
        ({"x_amz_object_lock_retain_until_date": "2030-01-01T00:00:00Z"}, ["PutObject", "PutObjectRetention"]),
        ({"x_amz_object_lock_legal_hold": "ON"}, ["PutObject", "PutObjectLegalHold"]),
        ({"x_amz_website_redirect_location": "/x", "x_amz_meta_a": "b", "x_amz_storage_class": "C"}, ["PutObject"]),
    ],
)
@pytest.mark.parametrize("uri", ["/b-1/k", "/b-1/k?uploads"])
def test_a_header_that_carries_a_meaning_needs_its_own_action(headers, actions, uri):
    method = "POST" if "uploads" in uri else "PUT"
    assert asked(method, uri, OPEN, **headers) == [f"{action} b-1/k" for action in actions]


def test_bypassing_governance_needs_its_own_action():
    bypass = {"x_amz_bypass_governance_retention": "true"}
    assert asked("DELETE", "/b-1/k", **bypass) == ["DeleteObject b-1/k", "BypassGovernanceRetention b-1/k"]
    assert asked("PUT", "/b-1/k?retention", **bypass)[1] == "BypassGovernanceRetention b-1/k"
    assert on_every("POST", "/b-1?delete", **bypass)[2] == "BypassGovernanceRetention b-1/"


def test_headers_of_a_new_bucket():
    assert asked("PUT", "/b-1", OPEN, x_amz_acl="public-read") == ["CreateBucket b-1", "PutBucketAcl b-1"]
    assert asked("PUT", "/b-1", x_amz_bucket_object_lock_enabled="true") == [
        "CreateBucket b-1",
        "PutBucketObjectLockConfiguration b-1",
        "PutBucketVersioning b-1",
    ]
    assert asked("PUT", "/b-1", x_amz_object_ownership="ObjectWriter")[1] == "PutBucketOwnershipControls b-1"


@pytest.mark.parametrize(
    ("method", "uri", "header"),
    [
        ("GET", "/b-1/k", "x_amz_copy_source"),
        ("PUT", "/b-1/k?acl", "x_amz_copy_source"),
        ("PUT", "/b-1/k?tagging", "x_amz_copy_source"),
        ("PUT", "/b-1", "x_amz_copy_source"),
        ("GET", "/b-1/k", "x_amz_acl"),
        ("PUT", "/b-1/k?uploadId=u&partNumber=1", "x_amz_acl"),
        ("PUT", "/b-1/k", "x_amz_bypass_governance_retention"),
        ("PUT", "/b-1/k", "x_amz_tagging_directive"),
        ("PUT", "/b-1/k", "x_amz_unheard_of"),
        ("GET", "/b-1/k", "x_amz_meta_a"),
        ("DELETE", "/b-1", "x_minio_force_delete"),
        ("GET", "/b-1/k", "rgwx_source_zone"),
        ("PUT", "/b-1/k", "x_object_manifest"),
        ("PUT", "/b-1/k", "x_delete_after"),
        ("GET", "/b-1/k", "x_auth_token"),
        ("GET", "/b-1/k", "x_http_method_override"),
    ],
)
def test_a_header_that_the_operation_does_not_have_is_refused(method, uri, header):
    with pytest.raises(NotImplementedHere):
        read(method, uri, **{header: "other/k"})


def test_a_header_is_refused_that_a_store_could_take_for_another_one():
    request = s3_request("PUT", "/b-1/k")
    for extra in (("x_amz_copy_source", "other/k"), ("X_Anything".lower(), "1")):
        with pytest.raises(InvalidRequest):
            read_s3_request(PLAIN, type(request)(**{**fields(request), "headers": (*request.headers, extra)}))


@pytest.mark.parametrize("name", ["x-amz-tagging", "host", "content-md5", "range", "if-none-match"])
def test_a_header_given_twice_is_refused(name):
    request = s3_request("PUT", "/b-1/k")
    twice = (*request.headers, (name, HOST), (name, HOST))
    with pytest.raises(InvalidRequest):
        read_s3_request(PLAIN, type(request)(**{**fields(request), "headers": twice}))


def fields(request):
    return {name: getattr(request, name) for name in request.__dataclass_fields__}


@pytest.mark.parametrize("name", ["x-amz-acl", "X-Amz-Copy-Source", "x-amz-tagging", "x-amz-algorithm"])
def test_a_header_cannot_hide_in_the_query(name):
    with pytest.raises(NotImplementedHere, match="send it as a header"):
        read("PUT", f"/b-1/k?{name}=x")


def test_a_presigned_request_is_read_without_its_signature():
    signature = (
        "X-Amz-Algorithm=A&X-Amz-Content-Sha256=UNSIGNED-PAYLOAD&X-Amz-Credential=c&X-Amz-Date=d&X-Amz-Expires=1"
        "&X-Amz-Security-Token=t&X-Amz-Signature=s&X-Amz-SignedHeaders=host&x-amz-checksum-mode=ENABLED&x-id=GetObject"
    )
    found = read("GET", f"/b-1/k?versionId=3&{signature}")
    assert dict(found.parameters) == {"bucketName": "b-1", "key": "k", "versionId": "3"}


# --- ACLs and policies at the store -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "uri", "headers"),
    [
        ("PUT", "/b-1?policy", {}),
        ("DELETE", "/b-1?policy", {}),
        ("PUT", "/b-1?acl", {}),
        ("PUT", "/b-1/k?acl", {"x_amz_acl": "private"}),
        ("PUT", "/b-1/k", {"x_amz_acl": "public-read"}),
        ("PUT", "/b-1/k", {"x_amz_grant_read": "uri=http://acs.amazonaws.com/groups/global/AllUsers"}),
        ("PUT", "/b-1", {"x_amz_acl": "public-read-write"}),
        ("POST", "/b-1/k?uploads", {"x_amz_acl": "authenticated-read"}),
        ("PUT", "/b-1/k", {"x_amz_copy_source": "b-1/j", "x_amz_acl": "public-read"}),
    ],
)
def test_who_gets_in_at_the_store_changes_only_where_the_settings_allow_it(method, uri, headers):
    with pytest.raises(AccessDenied, match="policy_writes"):
        read(method, uri, **headers)
    assert read(method, uri, OPEN, **headers).writes


# --- copies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "permission"),
    [
        ("other/a%20b", "GetObject other/a b"),
        ("/other/k", "GetObject other/k"),
        ("other%2Fk%2Fl", "GetObject other/k/l"),
        ("other/k?versionId=3", "GetObjectVersion other/k"),
        ("other/k%3FversionId=3", "GetObject other/k?versionId=3"),
        ("other/b-1/../k", "GetObject other/b-1/../k"),
    ],
)
def test_a_copy_reads_its_source(source, permission):
    assert asked("PUT", "/b-1/k", x_amz_copy_source=source) == ["PutObject b-1/k", permission]
    part = "/b-1/k?uploadId=u&partNumber=1"
    assert asked("PUT", part, x_amz_copy_source=source) == ["PutObject b-1/k", permission]


def test_the_version_of_the_source_is_no_version_of_the_target():
    version = keys("PUT", "/b-1/k", action="GetObjectVersion", x_amz_copy_source="other/k?versionId=3")
    assert version["s3:versionid"] == ("3",)
    assert "s3:versionid" not in keys("PUT", "/b-1/k", x_amz_copy_source="other/k?versionId=3")


def test_tags_are_copied_with_actions_of_their_own_where_the_request_says_so():
    copy = {"x_amz_copy_source": "other/k?versionId=3", "x_amz_tagging_directive": "COPY"}
    assert asked("PUT", "/b-1/k", **copy) == [
        "PutObject b-1/k",
        "PutObjectTagging b-1/k",
        "GetObjectVersion other/k",
        "GetObjectVersionTagging other/k",
    ]


@pytest.mark.parametrize(
    "source",
    [
        "", "other", "other/", "/", "//other/k", "other/a+b", "other/k#x", "other/k?versionId=", "other/k?acl",
        "other/a b", "other/k?versionId=1&x=2", "other/%zz", "tenant:other/k", "admin/user", "other/k%00", "other/\xfc",
        "arn:aws:s3:us-east-1:111122223333:accesspoint/a/object/k", "..%2Fother/k",
    ],
)  # fmt: skip
def test_a_source_that_is_no_object_is_refused(source):
    with pytest.raises(ServiceError):
        read("PUT", "/b-1/k", x_amz_copy_source=source)


# --- what the body names ----------------------------------------------------------------------------------------------


def test_delete_objects_needs_permission_on_every_key_and_version():
    assert asked("POST", "/b-1?delete") == []
    assert on_every("POST", "/b-1?delete") == ["DeleteObject b-1/", "DeleteObjectVersion b-1/"]
    version = read("POST", "/b-1?delete", if_match="*").every_resource[1]
    assert "s3:if-match" not in version.keys
    assert {"s3:versionid", "s3:if-match"} <= version.unknown


@pytest.mark.parametrize(
    ("uri", "every"),
    [
        ("/b-1?logging", ["PutObject "]),
        ("/b-1?inventory&id=1", ["PutObject "]),
        ("/b-1?analytics&id=1", ["PutObject "]),
        ("/b-1?replication", ["ReplicateObject ", "ReplicateDelete "]),
    ],
)
def test_where_the_body_names_another_bucket_every_object_counts(uri, every):
    assert on_every("PUT", uri) == every


def test_a_restored_object_can_be_written_anywhere():
    assert asked("POST", "/b-1/k?restore") == ["RestoreObject b-1/k"]
    assert on_every("POST", "/b-1/k?restore") == ["PutObject "]


# --- stores that do not know a subresource ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "uri", "plain"),
    [
        ("DELETE", "/b-1?metrics&id=1", "DeleteBucket b-1"),
        ("DELETE", "/b-1?encryption", "DeleteBucket b-1"),
        ("PUT", "/b-1?ownershipControls", "CreateBucket b-1"),
        ("GET", "/b-1?inventory", "ListBucket b-1"),
        ("PUT", "/b-1/k?annotation&annotationName=a", "PutObject b-1/k"),
        ("DELETE", "/b-1/k?annotation&annotationName=a&versionId=3", "DeleteObjectVersion b-1/k"),
        ("GET", "/b-1/k?annotation&annotationName=a", "GetObject b-1/k"),
        ("PUT", "/b-1/k?encryption", "PutObject b-1/k"),
    ],
)
def test_a_subresource_that_not_every_store_knows_needs_the_plain_operation_as_well(method, uri, plain):
    assert asked(method, uri, RESIGNED)[-1] == plain
    assert plain not in asked(method, uri)
    name = uri.partition("?")[2].partition("&")[0]
    backend = type(BACKEND)(
        endpoint="http://x", region="r", access_key_id="k", secret_access_key="s", subresources=frozenset({name})
    )
    assert asked(method, uri, s3_resource(backend=backend)) == asked(method, uri)


def test_a_subresource_that_every_store_knows_needs_nothing_more():
    assert asked("DELETE", "/b-1?lifecycle", RESIGNED) == ["PutLifecycleConfiguration b-1"]
    assert asked("PUT", "/b-1/k?tagging", RESIGNED) == ["PutObjectTagging b-1/k"]


# --- condition keys ---------------------------------------------------------------------------------------------------


def test_keys_of_a_list():
    found = keys("GET", "/b-1?list-type=2&prefix=home%2Fa+b&delimiter=/&max-keys=5")
    assert found == {
        "s3:prefix": ("home/a b",),
        "s3:delimiter": ("/",),
        "s3:max-keys": ("5",),
        "s3:resourceaccount": ("111122223333",),
    }
    assert keys("GET", "/b-1?prefix=")["s3:prefix"] == ("",)
    assert "s3:prefix" not in keys("GET", "/b-1")
    assert "s3:prefix" not in keys("GET", "/b-1?uploads&prefix=a")


def test_keys_of_an_upload():
    headers = {
        "x_amz_acl": "private",
        "x_amz_server_side_encryption": "aws:kms",
        "x_amz_server_side_encryption_aws_kms_key_id": "arn:k",
        "x_amz_storage_class": "STANDARD_IA",
        "x_amz_website_redirect_location": "/x",
        "x_amz_content_sha256": "UNSIGNED-PAYLOAD",
        "x_amz_tagging": "Department=R%26D&team=a+b",
        "x_amz_object_lock_mode": "COMPLIANCE",
        "if_none_match": "*",
    }
    found = keys("PUT", "/b-1/k", **headers)
    assert found["s3:x-amz-acl"] == ("private",)
    assert found["s3:x-amz-server-side-encryption"] == ("aws:kms",)
    assert found["s3:x-amz-server-side-encryption-aws-kms-key-id"] == ("arn:k",)
    assert found["s3:x-amz-storage-class"] == ("STANDARD_IA",)
    assert found["s3:x-amz-website-redirect-location"] == ("/x",)
    assert found["s3:x-amz-content-sha256"] == ("UNSIGNED-PAYLOAD",)
    assert found["s3:requestobjecttag/department"] == ("R&D",)
    assert found["s3:requestobjecttag/team"] == ("a b",)
    assert found["s3:requestobjecttagkeys"] == ("Department", "team")
    assert found["s3:object-lock-mode"] == ("COMPLIANCE",)
    assert found["s3:if-none-match"] == ("*",)
    assert found["s3:objectcreationoperation"] == ("true",)
    assert keys("PUT", "/b-1/k", action="PutObjectTagging", **headers).keys() == {
        "s3:requestobjecttag/department",
        "s3:requestobjecttag/team",
        "s3:requestobjecttagkeys",
        "s3:resourceaccount",
        "s3:x-amz-content-sha256",
    }


@pytest.mark.parametrize(
    "tagging", ["a=1&a=2", "a=1&%61=2", "a=1&A=2", "a&a=", "a=%ff", "&".join(f"t{n}=1" for n in range(51))]
)
def test_tags_that_cannot_be_read_are_refused(tagging):
    with pytest.raises(InvalidRequest):
        read("PUT", "/b-1/k", x_amz_tagging=tagging)


def test_a_part_creates_no_object():
    assert keys("PUT", "/b-1/k?uploadId=u&partNumber=1")["s3:objectcreationoperation"] == ("false",)
    assert keys("POST", "/b-1/k?uploadId=u")["s3:objectcreationoperation"] == ("true",)


def test_keys_of_a_copy_and_of_a_version():
    found = keys("PUT", "/b-1/k", x_amz_copy_source="/other/k", x_amz_metadata_directive="REPLACE")
    assert found["s3:x-amz-copy-source"] == ("/other/k",)
    assert found["s3:x-amz-metadata-directive"] == ("REPLACE",)
    assert keys("GET", "/b-1/k?versionId=3")["s3:versionid"] == ("3",)


def test_what_is_recorded():
    found = read("PUT", "/b-1/a%20b?tagging&versionId=3")
    assert dict(found.parameters) == {"bucketName": "b-1", "key": "a b", "tagging": "", "versionId": "3"}
    assert found.writes
    assert not read("POST", "/b-1/k?select&select-type=2").writes
    assert not read("HEAD", "/b-1/k").writes
    assert dict(read("PUT", "/b-1/k", x_amz_copy_source="other/k").parameters)["x-amz-copy-source"] == "other/k"
