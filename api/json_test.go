package api

import "testing"

func TestPython(t *testing.T) {
	for _, tt := range []struct {
		v    any
		want string
	}{
		{map[string]any{"b": []any{1, 2.5, true, nil}, "a": "x,y: z"}, `{"a": "x,y: z", "b": [1, 2.5, true, null]}`},
		{"<&>", `"<&>"`},
		{`a\u003cb`, `"a\\u003cb"`},
		{"q\"\\\n", `"q\"\\\n"`},
		{"象🐘", `"\u8c61\ud83d\udc18"`},
		{[]any{}, `[]`},
		{1048576.0, `1048576`},
	} {
		if got := string(python(tt.v)); got != tt.want {
			t.Errorf("python(%v) = %s, want %s", tt.v, got, tt.want)
		}
	}
}

func TestBytes(t *testing.T) {
	for text, want := range map[string]int64{"10": 10, "1kB": 1 << 10, "1.5 MB": 3 << 19, "2gb": 2 << 30, "1TB": 1 << 40} {
		if got, ok := size(text); !ok || got != want {
			t.Errorf("size(%q) = %d, %t; want %d", text, got, ok, want)
		}
	}
	for _, text := range []string{"", "x", "1 km", "-1", "99999999999TB"} {
		if got, ok := size(text); ok {
			t.Errorf("size(%q) = %d, want no limit", text, got)
		}
	}
}
