package scram

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
)

// A Client is the client's side of one exchange, without channel binding.
type Client struct {
	nonce  string
	signed string
	keys   Keys
}

// header says that this client does not bind to the channel.
const header = "n,,"

// NewClient begins an exchange with a fresh nonce.
func NewClient(nonce string) *Client { return &Client{nonce: nonce} }

// First is the message that goes with the choice of mechanism. The server takes
// the user's name from the startup message.
func (c *Client) First() string { return header + c.bare() }

func (c *Client) bare() string { return "n=,r=" + c.nonce }

// Final answers the server's first message. keys are asked for what it demands;
// who passes a client's proof through has them already and checks nothing.
func (c *Client) Final(msg string, keys func(salt []byte, iterations int) (Keys, error)) (string, error) {
	if err := text(msg); err != nil {
		return "", err
	}
	rest := msg
	full, err := attribute(&rest, 'r')
	if err != nil {
		return "", err
	}
	if !strings.HasPrefix(full, c.nonce) || len(full) == len(c.nonce) || !nonce(full) {
		return "", fmt.Errorf("%w: the nonce does not match", ErrMessage)
	}
	encoded, err := attribute(&rest, 's')
	if err != nil {
		return "", err
	}
	salt, err := decode(encoded)
	if err != nil {
		return "", fmt.Errorf("%w: the salt", ErrMessage)
	}
	count, err := attribute(&rest, 'i')
	if err != nil {
		return "", err
	}
	iterations, err := strconv.ParseInt(count, 10, 32)
	if err != nil || iterations < 1 || rest != "" || strings.HasSuffix(msg, ",") {
		return "", fmt.Errorf("%w: the count of iterations", ErrMessage)
	}
	if c.keys, err = keys(salt, int(iterations)); err != nil {
		return "", err
	}
	without := "c=" + base64.StdEncoding.EncodeToString([]byte(header)) + ",r=" + full
	c.signed = c.bare() + "," + msg + "," + without
	stored := sha256.Sum256(c.keys.Client[:])
	proof := xor(mac(stored[:], c.signed), c.keys.Client)
	return without + ",p=" + base64.StdEncoding.EncodeToString(proof[:]), nil
}

// Verify reads the server's last message, which proves that it knows the
// verifier too.
func (c *Client) Verify(msg string) error {
	if err := text(msg); err != nil {
		return err
	}
	if c.signed == "" {
		return fmt.Errorf("%w: it is early", ErrMessage)
	}
	if failed, ok := strings.CutPrefix(msg, "e="); ok {
		return fmt.Errorf("%w: the server says %q", ErrProof, failed)
	}
	rest := msg
	value, err := attribute(&rest, 'v')
	if err != nil {
		return err
	}
	var theirs [Size]byte
	if rest != "" || !key(&theirs, value) {
		return fmt.Errorf("%w: the server's signature", ErrMessage)
	}
	if ours := mac(c.keys.Server[:], c.signed); !hmac.Equal(ours[:], theirs[:]) {
		return fmt.Errorf("%w: the server's signature", ErrProof)
	}
	return nil
}
