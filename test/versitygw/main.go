// Command versitygw serves a directory as S3 on a unix socket, for tests: each
// directory in it is a bucket. It is a module of its own, because nothing of
// what it takes is linked into the product.
//
//	versitygw DIRECTORY SOCKET
//
// The key is test, its secret s3cr3t-of-the-test. It ends with its standard input.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: versitygw DIRECTORY SOCKET")
		os.Exit(2)
	}
	if err := serve(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(dir, socket string) error {
	objects, side := filepath.Join(dir, "objects"), filepath.Join(dir, "side")
	for _, d := range []string{objects, side} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	beside, err := meta.NewSideCar(side) // not every file system has extended attributes
	if err != nil {
		return err
	}
	store, err := posix.New(objects, beside, posix.PosixOpts{SideCarDir: side, NewDirPerm: 0o755})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	return embedgw.RunVersityGW(ctx, store, &embedgw.Config{
		RootUserAccess: "test", RootUserSecret: "s3cr3t-of-the-test", Region: "us-east-1", Ports: []string{socket}, VirtualDomain: "s3.test",
		MaxConnections: 4096, MaxRequests: 4096, MultipartMaxParts: 10000, KeepAlive: true, Quiet: true,
	})
}
