package spec

import "testing"

func TestADefaultPrivilegeIsReadAndWrittenAnew(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"GRANT USAGE      ON SCHEMAS   TO dbrole_readonly", `GRANT USAGE ON SCHEMAS TO "dbrole_readonly"`},
		{"grant insert, Update on tables to A, \"B\"\"c\" with grant option;", `GRANT INSERT, UPDATE ON TABLES TO "a", "B""c" WITH GRANT OPTION`},
		{"IN SCHEMA x, \"Y\" REVOKE ALL PRIVILEGES ON ROUTINES FROM PUBLIC cascade", `IN SCHEMA "x", "Y" REVOKE ALL ON FUNCTIONS FROM PUBLIC`},
		{"REVOKE GRANT OPTION FOR SELECT ON SEQUENCES FROM GROUP g", `REVOKE GRANT OPTION FOR SELECT ON SEQUENCES FROM "g"`},
	} {
		p, err := ParsePrivilege(tt.text)
		if err != nil || p.String() != tt.want {
			t.Errorf("%s: got %s, %v; want %s", tt.text, p, err, tt.want)
			continue
		}
		again, err := ParsePrivilege(p.String())
		if err != nil || again.String() != tt.want {
			t.Errorf("%s: read again it is %s, %v", tt.want, again, err)
		}
	}
}

func TestNothingButAPrivilegeIsOne(t *testing.T) {
	for _, text := range []string{
		"", "GRANT", "GRANT SELECT ON TABLES", "GRANT SELECT ON TABLES TO", "GRANT SELECT ON TABLES TO a; DROP TABLE b",
		"GRANT SELECT ON TABLES TO a' ", "GRANT SELECT ON TABLES TO a -- b", "GRANT SELECT ON TABLES TO \"", "DROP TABLE a",
		"GRANT EXECUTE ON TABLES TO a", "GRANT ALL, SELECT ON TABLES TO a", "GRANT SELECT ON TABLES TO a, ,b", "GRANT SELECT ON DATABASE x TO a",
		"IN SCHEMA s GRANT USAGE ON SCHEMAS TO a", "REVOKE SELECT ON TABLES FROM a WITH GRANT OPTION", "GRANT SELECT ON TABLES TO \"\"",
		"GRANT SELECT ON TABLES TO a WITH ADMIN OPTION", "GRANT dbrole_admin TO a",
	} {
		if p, err := ParsePrivilege(text); err == nil {
			t.Errorf("%q is taken for %s", text, p)
		}
	}
}
