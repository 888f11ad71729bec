package s3

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/http"

	"github.com/minio/minio-go/v7"

	"howdah/backup/repo"
	"howdah/problem"
)

// failed says what an error means for a person; nil stays nil.
func (s *Store) failed(ctx context.Context, verb, name string, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	if name == "" {
		name = "the repository"
	}
	what := fmt.Sprintf("cannot %s %s in %s", verb, name, s.where)
	e, answered := errors.AsType[minio.ErrorResponse](err)
	if !answered {
		return s.silent(what, err)
	}
	said := fmt.Sprintf("%s (%s, status %d)", e.Message, e.Code, e.StatusCode)
	switch {
	case e.Code == minio.NoSuchBucket:
		return &repo.Error{Class: repo.Protocol, Err: &problem.Error{
			Code: "s3-bucket", What: what, Why: "the store has no bucket of that name",
			Do: "create the bucket, which this program does not, or correct repo-s3-bucket and repo-s3-uri-style",
		}}
	case e.Code == minio.NoSuchKey || e.Code == "NotFound" || e.Code == "" && e.StatusCode == http.StatusNotFound:
		if verb == "remove" {
			return nil
		}
		return &fs.PathError{Op: verb, Path: name, Err: fs.ErrNotExist}
	case e.Code == "InvalidAccessKeyId" || e.Code == "XAdminUserNotFound" || e.Code == "SignatureDoesNotMatch" || e.Code == "InvalidToken" || e.Code == "ExpiredToken":
		return &repo.Error{Class: repo.Protocol, Err: &problem.Error{
			Code: "s3-key", What: what, Why: "the store does not know the key, or the secret is another one: " + said,
			Do: "correct repo-s3-key and repo-s3-key-secret (and repo-s3-token, if there is one)",
		}}
	case e.Code == "RequestTimeTooSkewed":
		return &repo.Error{Class: repo.Clock, Err: &problem.Error{
			Code: "s3-clock", What: what, Why: "the clocks of this machine and of the store are too far apart, and requests are signed with the time: " + said,
			Do: "set the clock that is wrong, and have it kept right (chrony, systemd-timesyncd)",
		}}
	case e.Code == "AuthorizationHeaderMalformed" || e.Code == "InvalidRegion":
		return &repo.Error{Class: repo.Protocol, Err: &problem.Error{
			Code: "s3-region", What: what, Why: said, Do: "correct repo-s3-region: the store says which it wants",
		}}
	case e.StatusCode == http.StatusForbidden:
		return &repo.Error{Class: repo.Protocol, Err: &problem.Error{
			Code: "s3-denied", What: what, Why: "the key may not do that: " + said,
			Do: "give the key's policy s3:ListBucket on the bucket, and s3:GetObject, s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload on what is in it",
		}}
	}
	return &repo.Error{Class: repo.Protocol, Err: &problem.Error{
		Code: "s3-refused", What: what, Why: said, Do: "look into the store's own log; what is temporary was tried several times already",
	}}
}

// silent is about a store of which no answer came.
func (s *Store) silent(what string, err error) error {
	_, authority := errors.AsType[x509.UnknownAuthorityError](err)
	_, host := errors.AsType[x509.HostnameError](err)
	_, invalid := errors.AsType[x509.CertificateInvalidError](err)
	_, verify := errors.AsType[*tls.CertificateVerificationError](err)
	if authority || host || invalid || verify {
		return &repo.Error{Class: repo.Crypto, Err: &problem.Error{
			Code: "s3-certificate", What: what, Why: "the store's certificate is not believed", Err: err,
			Do: "name the authority that signed it in repo-storage-ca-file, and the host as the certificate does in repo-s3-endpoint or repo-storage-host",
		}}
	}
	return &repo.Error{Class: repo.HostConnect, Err: &problem.Error{
		Code: "s3-unreachable", What: what, Why: "the store does not answer", Err: err,
		Do: "see that it runs, and that repo-s3-endpoint, repo-storage-host and repo-storage-port lead to it from this machine",
	}}
}
