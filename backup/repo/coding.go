package repo

import (
	"bufio"
	"compress/bzip2"
	"crypto/sha1" //nolint:gosec // the format's checksum
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"howdah/secret"
)

// A Coding is how an object is stored: compressed, then encrypted.
type Coding struct {
	Compress Compression
	Level    int
	Pass     secret.Text // "": not encrypted
	// Raw streams lack what tells them from others: zlib for gzip, the salt
	// without its magic. They are in bundles of backups with blocks. Read only.
	Raw bool
}

// Plain says that the object is the content itself.
func (c Coding) Plain() bool { return (c.Compress == None || c.Compress == "") && c.Pass == "" }

// A Sum is the checksum and size of what is written to it.
type Sum struct {
	h hash.Hash
	n int64
}

// NewSum is that of nothing.
func NewSum() *Sum { return &Sum{h: sha1.New()} }

// Write adds content.
func (s *Sum) Write(p []byte) (int, error) {
	s.n += int64(len(p))
	return s.h.Write(p)
}

// String is the SHA-1 in hexadecimal digits.
func (s *Sum) String() string { return hex.EncodeToString(s.h.Sum(nil)) }

// Size is how much was written.
func (s *Sum) Size() int64 { return s.n }

// A Sealer stores what is written to it, and keeps the sums of both sides.
type Sealer struct {
	in, out  tally
	top      io.Writer
	closers  []io.Closer
	finished bool
}

// tally counts and hashes what goes through.
type tally struct {
	w io.Writer
	n int64
	h hash.Hash
}

func (t *tally) Write(p []byte) (int, error) {
	t.n += int64(len(p))
	_, _ = t.h.Write(p)
	return t.w.Write(p)
}

// Seal returns a writer into w. The salt must be a new random one; it is not
// used if nothing is encrypted.
func Seal(w io.Writer, c Coding, salt [SaltSize]byte) (*Sealer, error) {
	s := &Sealer{out: tally{w: w, h: sha1.New()}, in: tally{h: sha1.New()}}
	s.top = &s.out
	if c.Pass != "" {
		e := Encrypt(s.top, c.Pass.Reveal(), salt)
		s.top, s.closers = e, append(s.closers, e)
	}
	if c.Compress != None && c.Compress != "" {
		z, err := compress(s.top, c)
		if err != nil {
			return nil, err
		}
		s.top, s.closers = z, append(s.closers, z)
	}
	s.in.w = s.top
	return s, nil
}

// Write adds content.
func (s *Sealer) Write(p []byte) (int, error) { return s.in.Write(p) }

// Close ends the object; the writer below stays open.
func (s *Sealer) Close() error {
	if s.finished {
		return nil
	}
	s.finished = true
	for i := len(s.closers) - 1; i >= 0; i-- {
		if err := s.closers[i].Close(); err != nil {
			return err
		}
	}
	return nil
}

// Sealed is what is known of an object that was written.
type Sealed struct {
	Size     int64  // of the content
	Checksum string // SHA-1 of the content
	Stored   int64
	RepoSum  string // SHA-1 as stored
}

// Sealed returns the sums; it is meant for after Close.
func (s *Sealer) Sealed() Sealed {
	return Sealed{s.in.n, hex.EncodeToString(s.in.h.Sum(nil)), s.out.n, hex.EncodeToString(s.out.h.Sum(nil))}
}

func compress(w io.Writer, c Coding) (io.WriteCloser, error) {
	switch c.Compress {
	case Gzip:
		return gzip.NewWriterLevel(w, min(c.Level, gzip.BestCompression))
	case Zstd:
		return newZstd(w, zstd.EncoderLevelFromZstd(max(c.Level, 1)))
	case LZ4:
		z := lz4.NewWriter(w)
		levels := []lz4.CompressionLevel{lz4.Fast, lz4.Fast, lz4.Fast, lz4.Level1, lz4.Level2, lz4.Level3, lz4.Level4, lz4.Level5, lz4.Level6, lz4.Level7, lz4.Level8, lz4.Level9}
		level := levels[min(max(c.Level, 0), len(levels)-1)]
		return z, z.Apply(lz4.ConcurrencyOption(1), lz4.ChecksumOption(true), lz4.BlockSizeOption(lz4.Block1Mb), lz4.CompressionLevelOption(level))
	case Bzip:
		return nil, Errorf(FeatureUnsupported, "compress-type=bz2 can be read but not written; use zst")
	}
	return nil, Errorf(OptionInvalidValue, "'%s' is not a compression type", c.Compress)
}

// encoders of each level are used again: a new one takes megabytes, and a
// cluster has thousands of small files.
var encoders [zstd.SpeedBestCompression + 1]sync.Pool

// zstdWriter is an encoder on loan.
type zstdWriter struct {
	*zstd.Encoder
	pool *sync.Pool
}

func newZstd(w io.Writer, level zstd.EncoderLevel) (io.WriteCloser, error) {
	pool := &encoders[level]
	if e, ok := pool.Get().(*zstd.Encoder); ok {
		e.Reset(w)
		return &zstdWriter{e, pool}, nil
	}
	e, err := zstd.NewWriter(w, zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
	return &zstdWriter{e, pool}, err
}

// Close ends the stream and gives the encoder back; one that failed is not used again.
func (z *zstdWriter) Close() error {
	if err := z.Encoder.Close(); err != nil {
		return err
	}
	z.Reset(nil)
	z.pool.Put(z.Encoder)
	return nil
}

// An Opener reads content from an object, and knows its sums at the end.
type Opener struct {
	in, out taps
	close   func()
}

type taps struct {
	r io.Reader
	n int64
	h hash.Hash
}

func (t *taps) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	t.n += int64(n)
	_, _ = t.h.Write(p[:n])
	return n, err
}

// Open reads the content of an object from r. Damage shows as an error of
// class Crypto or BadFormat, or only as a wrong sum.
func Open(r io.Reader, c Coding) (*Opener, error) {
	o := &Opener{in: taps{r: r, h: sha1.New()}, close: func() {}}
	top := io.Reader(&o.in)
	if c.Pass != "" {
		top = Decrypt(top, c.Pass.Reveal(), c.Raw)
	}
	switch c.Compress {
	case None, "":
	case Gzip:
		open := func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }
		if c.Raw {
			open = func(r io.Reader) (io.Reader, error) { return zlib.NewReader(r) }
		}
		z, err := open(bufio.NewReader(top))
		if err != nil {
			return nil, damaged(err)
		}
		top = z
	case Zstd:
		z, err := zstd.NewReader(top, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(1<<30))
		if err != nil {
			return nil, damaged(err)
		}
		top, o.close = z, z.Close
	case LZ4:
		top = lz4.NewReader(top)
	case Bzip:
		top = bzip2.NewReader(top)
	default:
		return nil, Errorf(BadFormat, "'%s' is not a compression type", c.Compress)
	}
	o.out = taps{r: top, h: sha1.New()}
	return o, nil
}

// damaged gives an error of a decoder its class.
func damaged(err error) error {
	var e *Error
	if err == nil || errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && err == io.EOF || errors.As(err, &e) {
		return err
	}
	return &Error{Class: BadFormat, Err: err}
}

// Read returns content.
func (o *Opener) Read(p []byte) (int, error) {
	n, err := o.out.Read(p)
	if err != nil && err != io.EOF {
		err = damaged(err)
	}
	return n, err
}

// Drain reads what is stored behind the end of the content, for its sum.
func (o *Opener) Drain() error {
	_, err := io.Copy(io.Discard, &o.in)
	return err
}

// Close lets go of the decoder; the reader below stays open.
func (o *Opener) Close() error {
	o.close()
	return nil
}

// Sealed returns the sums of what was read so far.
func (o *Opener) Sealed() Sealed {
	return Sealed{o.out.n, hex.EncodeToString(o.out.h.Sum(nil)), o.in.n, hex.EncodeToString(o.in.h.Sum(nil))}
}
