package repo

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha1" //nolint:gosec // OpenSSL's derivation, as pgBackRest asks for it
	"errors"
	"io"
)

// The only cipher of the format: AES-256-CBC as `openssl enc` writes it. The
// pass phrase is used as it stands; nothing authenticates the text, which is
// why every object's SHA-1 is known from elsewhere.
//
//	| "Salted__" 8 | salt 8 | text, padded to 16 |
const saltMagic = "Salted__"

// CipherAES is its name in configurations and in info.
const (
	CipherAES  = "aes-256-cbc"
	CipherNone = "none"
)

// SaltSize is the length of the random part of every encrypted object.
const SaltSize = 8

// errPadding is what a wrong pass phrase mostly looks like.
var errPadding = errors.New("unable to flush: bad decrypt")

// derive is EVP_BytesToKey with SHA-1 and one iteration.
func derive(pass string, salt []byte) (key, iv []byte) {
	var all, last []byte
	for len(all) < 48 {
		h := sha1.New()
		h.Write(last)
		h.Write([]byte(pass))
		h.Write(salt)
		last = h.Sum(nil)
		all = append(all, last...)
	}
	return all[:32], all[32:48]
}

type encrypter struct {
	w    io.Writer
	mode cipher.BlockMode
	head []byte // not yet written
	held []byte // less than a block
	out  []byte
}

// Encrypt returns a writer whose Close ends the text; w is not closed.
func Encrypt(w io.Writer, pass string, salt [SaltSize]byte) io.WriteCloser {
	key, iv := derive(pass, salt[:])
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // the key has 32 bytes
	}
	return &encrypter{w: w, mode: cipher.NewCBCEncrypter(block, iv), head: append([]byte(saltMagic), salt[:]...)}
}

func (e *encrypter) Write(p []byte) (int, error) {
	n := len(p)
	if len(e.held) > 0 {
		take := min(aes.BlockSize-len(e.held), len(p))
		e.held = append(e.held, p[:take]...)
		if p = p[take:]; len(e.held) < aes.BlockSize {
			return n, nil
		}
		if err := e.put(e.held); err != nil {
			return 0, err
		}
		e.held = e.held[:0]
	}
	if whole := len(p) / aes.BlockSize * aes.BlockSize; whole > 0 {
		if err := e.put(p[:whole]); err != nil {
			return 0, err
		}
		p = p[whole:]
	}
	e.held = append(e.held, p...)
	return n, nil
}

// put encrypts whole blocks.
func (e *encrypter) put(p []byte) error {
	if e.head != nil {
		if _, err := e.w.Write(e.head); err != nil {
			return err
		}
		e.head = nil
	}
	if cap(e.out) < len(p) {
		e.out = make([]byte, len(p))
	}
	out := e.out[:len(p)]
	e.mode.CryptBlocks(out, p)
	_, err := e.w.Write(out)
	return err
}

func (e *encrypter) Close() error {
	pad := aes.BlockSize - len(e.held)
	return e.put(append(e.held, bytes.Repeat([]byte{byte(pad)}, pad)...))
}

type decrypter struct {
	r     io.Reader
	pass  string
	raw   bool
	mode  cipher.BlockMode
	in    []byte // read and not yet decrypted
	plain []byte // decrypted and not yet given
	buf   []byte
	err   error
}

// Decrypt returns a reader of the text of r; a raw one has no magic.
func Decrypt(r io.Reader, pass string, raw bool) io.Reader {
	return &decrypter{r: r, pass: pass, raw: raw}
}

func (d *decrypter) Read(p []byte) (int, error) {
	for len(d.plain) == 0 {
		if d.err != nil {
			return 0, d.err
		}
		d.fill()
	}
	n := copy(p, d.plain)
	d.plain = d.plain[n:]
	return n, nil
}

// fill decrypts what is there but the last block, which may be padding.
func (d *decrypter) fill() {
	if d.mode == nil {
		head := []byte(saltMagic + "saltsalt")
		into := head
		if d.raw {
			into = head[len(saltMagic):]
		}
		if _, err := io.ReadFull(d.r, into); err != nil || string(head[:len(saltMagic)]) != saltMagic {
			d.err = Errorf(Crypto, "cipher header invalid")
			if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				d.err = err
			}
			return
		}
		key, iv := derive(d.pass, head[len(saltMagic):])
		block, err := aes.NewCipher(key)
		if err != nil {
			d.err = err
			return
		}
		d.mode, d.buf = cipher.NewCBCDecrypter(block, iv), make([]byte, 64<<10)
	}
	n, err := d.r.Read(d.buf)
	d.in = append(d.in, d.buf[:n]...)
	if err != nil && !errors.Is(err, io.EOF) {
		d.err = err
		return
	}
	if err == nil {
		if whole := (len(d.in) - 1) / aes.BlockSize * aes.BlockSize; whole > 0 {
			d.plain = append(d.plain[:0], d.in[:whole]...)
			d.mode.CryptBlocks(d.plain, d.plain)
			d.in = append(d.in[:0], d.in[whole:]...)
		}
		return
	}
	if d.err = io.EOF; len(d.in) == 0 || len(d.in)%aes.BlockSize != 0 {
		d.err = Errorf(Crypto, "%w", errPadding)
		return
	}
	d.plain = append(d.plain[:0], d.in...)
	d.mode.CryptBlocks(d.plain, d.plain)
	pad := int(d.plain[len(d.plain)-1])
	if pad == 0 || pad > aes.BlockSize || !bytes.Equal(d.plain[len(d.plain)-pad:], bytes.Repeat([]byte{byte(pad)}, pad)) {
		d.plain, d.err = nil, Errorf(Crypto, "%w", errPadding)
		return
	}
	d.plain = d.plain[:len(d.plain)-pad]
}
