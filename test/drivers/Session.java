// What package drivers says, with JDBC: java Session session|loop

import java.io.StringReader;
import java.io.StringWriter;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Objects;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;
import org.postgresql.PGConnection;

public class Session {
	static Connection connect(String... more) throws SQLException {
		var env = System.getenv();
		var p = new Properties();
		p.put("user", env.get("PGUSER"));
		p.put("password", env.get("PGPASSWORD"));
		p.put("sslmode", env.getOrDefault("PGSSLMODE", "disable"));
		for (int i = 0; i < more.length; i += 2) p.put(more[i], more[i + 1]);
		return DriverManager.getConnection("jdbc:postgresql://" + env.get("PGHOST") + ":" + env.get("PGPORT") + "/" + env.get("PGDATABASE"), p);
	}

	static void same(String what, Object got, Object want) {
		if (!Objects.equals(got, want)) throw new AssertionError(what + ": " + got + ", want " + want);
	}

	interface Body {
		void run() throws Exception;
	}

	static void fails(String state, Body body) throws Exception {
		try {
			body.run();
		} catch (SQLException e) {
			same("SQLSTATE", e.getSQLState(), state);
			return;
		}
		throw new AssertionError("no error " + state);
	}

	public static void main(String[] args) throws Exception {
		if (args[0].equals("loop")) {
			loop();
			return;
		}
		// By their first use prepared by name; never; by the simple protocol; with what is rewritten.
		session();
		session("prepareThreshold", "1", "binaryTransfer", "true");
		session("prepareThreshold", "0");
		session("preferQueryMode", "simple");
		session("reWriteBatchedInserts", "true", "autosave", "always");
		System.out.println("done");
	}

	static void session(String... more) throws Exception {
		try (var one = connect(more); var two = connect(more); var s = one.createStatement()) {
			s.execute("CREATE TABLE jdbc (n int, s text)");
			// A batch is a pipeline: everything is sent before the first answer is read.
			one.setAutoCommit(false);
			try (var insert = one.prepareStatement("INSERT INTO jdbc VALUES (?, ?)")) {
				for (int n = 0; n < 5000; n++) {
					insert.setInt(1, n);
					insert.setString(2, "row " + n);
					insert.addBatch();
				}
				same("a batch", insert.executeBatch().length, 5000);
			}
			one.commit();
			// COPY both ways.
			if (more.length == 0 || !more[0].equals("preferQueryMode")) {
				var text = new StringBuilder();
				for (int n = 5000; n < 20000; n++) text.append(n).append("\trow ").append(n).append('\n');
				var copy = one.unwrap(PGConnection.class).getCopyAPI();
				same("a copy", copy.copyIn("COPY jdbc FROM STDIN", new StringReader(text.toString())), 15000L);
				one.commit();
				var out = new StringWriter();
				copy.copyOut("COPY (SELECT s FROM jdbc ORDER BY n) TO STDOUT", out);
				same("a copy back", out.toString().length(), 168890 + 20000);
				one.commit();
			} else {
				s.execute("INSERT INTO jdbc SELECT n, 'row ' || n FROM generate_series(5000, 19999) n");
				one.commit();
			}
			// Statements that become prepared ones as they are repeated, by two sessions in turns.
			for (int n = 0; n < 20; n++) {
				for (var conn : new Connection[] {one, two}) {
					try (var ask = conn.prepareStatement("SELECT s FROM jdbc WHERE n = ?")) {
						ask.setInt(1, n);
						ResultSet r = ask.executeQuery();
						same("a row", r.next(), true);
						same("prepared", r.getString(1), "row " + n);
					}
				}
				if (n % 3 == 0) one.commit();
			}
			one.commit();
			// A server's cursor, by portals with names.
			try (var walk = one.prepareStatement("SELECT n FROM jdbc ORDER BY n")) {
				walk.setFetchSize(500);
				long sum = 0;
				for (ResultSet r = walk.executeQuery(); r.next();) sum += r.getInt(1);
				same("a server's cursor", sum, 199990000L);
			}
			one.commit();
			// A large result, and a large value.
			try (var t = two.createStatement(); ResultSet r = t.executeQuery("SELECT repeat(s, 100) FROM jdbc")) {
				int bytes = 0;
				while (r.next()) bytes += r.getString(1).length();
				same("a large result", bytes, 100 * 168890);
			}
			try (var ask = two.prepareStatement("SELECT length(?::text)")) {
				ask.setString(1, "x".repeat(3 << 20));
				ResultSet r = ask.executeQuery();
				r.next();
				same("a large value", r.getInt(1), 3 << 20);
			}
			// An error ends the transaction, and not the session; with a savepoint not even that.
			fails("22012", () -> s.executeQuery("SELECT 1/0"));
			if (more.length < 4 || !more[3].equals("always")) fails("25P02", () -> s.executeQuery("SELECT 1"));
			one.rollback();
			var point = one.setSavepoint();
			s.execute("INSERT INTO jdbc VALUES (-1, 'gone')");
			one.rollback(point);
			one.commit();
			one.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
			try (ResultSet r = s.executeQuery("SELECT count(*), current_setting('transaction_isolation') FROM jdbc WHERE n < 0")) {
				r.next();
				same("after a savepoint", r.getInt(1), 0);
				same("the isolation", r.getString(2), "serializable");
			}
			one.commit();
			// Cancel, as soon as it runs.
			var ended = new AtomicBoolean();
			Statement sleeps = two.createStatement();
			var nag = new Thread(() -> {
				try {
					while (!ended.get()) {
						Thread.sleep(200);
						sleeps.cancel();
					}
				} catch (InterruptedException | SQLException e) {
					ended.set(true);
				}
			});
			nag.start();
			fails("57014", () -> sleeps.execute("SELECT pg_sleep(60)"));
			ended.set(true);
			nag.join();
		}
		try (var last = connect(more); var s = last.createStatement()) {
			s.execute("DROP TABLE jdbc");
		}
	}

	// loop writes rows until its input ends, in series that are prepared and such that are not.
	static void loop() throws Exception {
		var over = new AtomicBoolean();
		var count = new AtomicLong();
		var threads = new Thread[4];
		for (int i = 0; i < threads.length; i++) {
			String threshold = i % 2 == 0 ? "1" : "0";
			threads[i] = new Thread(() -> {
				try (var conn = connect("prepareThreshold", threshold)) {
					conn.setAutoCommit(false);
					while (!over.get()) {
						try (PreparedStatement insert = conn.prepareStatement("INSERT INTO written VALUES (?, ?)")) {
							insert.setString(1, "JDBC");
							insert.setLong(2, count.get());
							insert.executeUpdate();
						}
						conn.commit();
						if (count.incrementAndGet() == 20) System.out.println("ready");
						Thread.sleep(10);
					}
				} catch (Exception e) {
					e.printStackTrace();
					System.exit(1);
				}
			});
			threads[i].start();
		}
		while (System.in.read() >= 0);
		over.set(true);
		for (var t : threads) t.join();
		System.out.println(count.get());
	}
}
