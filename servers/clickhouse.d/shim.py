"""ClickHouse over HTTP: the real engine in this process, behind its own protocol.

    shim.py DIR PORT TLS_PORT

The engine is chdb-core, which is ClickHouse without its server. What this file adds is what the
server would: the HTTP interface (`/ping`, a query in the URL or the body, data behind it, settings
as parameters, query and parameters as a form, `database`, `X-ClickHouse-User` and `-Key` or basic
authentication, `X-ClickHouse-Exception-Code`, the rows that were read in `X-ClickHouse-Summary`), and
users. Everything else, from the parser to the files on disk, is the engine's.

The engine knows users of a configuration file only, and always is its user `default`. So statements
about users, roles, grants and row policies are parsed by the engine's own parser, kept here in
`access.json`, and written as the `default` user of a configuration; for a query of another user the
engine is opened anew with that configuration, and enforces it. One query runs at a time.
"""

import base64
import hashlib
import hmac
import json
import os
import re
import ssl
import sys
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from xml.sax.saxutils import escape

import chdb

# Parameters of the HTTP interface itself; every other one is a setting.
NOT_SETTINGS = {
    "query", "database", "user", "password", "default_format", "session_id", "query_id",
    "wait_end_of_query", "buffer_size", "compress", "decompress", "http_response_buffer_size",
}
STATUS = {516: 403, 497: 403, 194: 401, 60: 404, 81: 404, 62: 400, 47: 400, 115: 400, 241: 500, 159: 408}


class Refused(Exception):
    """What the server itself refuses, with a code of ClickHouse."""

    def __init__(self, code, text):
        super().__init__(f"Code: {code}. DB::Exception: {text}")


class Access:
    """Users, their roles, grants and row policies."""

    def __init__(self, path, admin_password):
        self.path = path
        self.lock = threading.Lock()
        self.state = {"users": {}, "roles": [], "grants": [], "members": [], "policies": []}
        if os.path.exists(path):
            with open(path) as file:
                self.state = json.load(file)
        self.state["users"]["admin"] = digest(admin_password)

    def save(self):
        with open(self.path + ".new", "w") as file:
            json.dump(self.state, file)
        os.replace(self.path + ".new", self.path)

    def authenticate(self, user, password):
        stored = self.state["users"].get(user)
        if stored is None or not hmac.compare_digest(stored, digest(password)):
            raise Refused(
                516,
                f"{user}: Authentication failed: password is incorrect, or there is no user with "
                "such name. (AUTHENTICATION_FAILED)",
            )

    def apply(self, sql):
        """Takes a statement in the form that the engine's formatter gives."""
        state = self.state
        # The formatter quotes a name only where it must.
        name = r"(`[^`]+`|[^` ,()]+)"
        if match := re.fullmatch(rf"CREATE ROLE (?:IF NOT EXISTS )?{name}", sql):
            if plain(match[1]) not in state["roles"]:
                state["roles"].append(plain(match[1]))
        elif match := re.fullmatch(
            rf"CREATE USER (?:IF NOT EXISTS )?{name} IDENTIFIED (?:WITH \w+ )?BY '((?:[^'\\]|\\.)*)'"
            rf"(?: DEFAULT ROLE {name})?", sql
        ):
            password = re.sub(r"\\(.)", r"\1", match[2])
            state["users"].setdefault(plain(match[1]), digest(password))
            if match[3]:
                state["members"].append([plain(match[3]), plain(match[1])])
        elif match := re.fullmatch(rf"DROP (USER|ROLE) (?:IF EXISTS )?{name}", sql):
            gone = plain(match[2])
            if match[1] == "USER":
                state["users"].pop(gone, None)
            state["roles"] = [role for role in state["roles"] if role != gone]
            state["members"] = [pair for pair in state["members"] if gone not in pair]
            state["grants"] = [grant for grant in state["grants"] if grant[1] != gone]
            state["policies"] = [policy for policy in state["policies"] if policy[-1] != gone]
        elif match := re.fullmatch(rf"GRANT {name} TO {name}", sql):
            state["members"].append([plain(match[1]), plain(match[2])])
        elif match := re.fullmatch(rf"GRANT (.+ ON \S+) TO {name}", sql):
            grant = [match[1], plain(match[2])]
            if grant not in state["grants"]:
                state["grants"].append(grant)
        elif match := re.fullmatch(
            rf"CREATE ROW POLICY (?:IF NOT EXISTS )?{name} ON (\S+)\.(\S+) FOR SELECT USING (.+) TO {name}", sql
        ):
            policy = [plain(match[1]), match[2], match[3], match[4], plain(match[5])]
            if policy not in state["policies"]:
                state["policies"].append(policy)
        else:
            raise Refused(48, "this server does not know that form of an access statement. (NOT_IMPLEMENTED)")
        self.save()

    def profile(self, user, own=None):
        """The engine's configuration of its one user, made of what this user may do."""
        own = own or {}
        head = "<password/><networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota>"
        if user == "admin":
            return head
        names = {user} | {role for role, member in self.state["members"] if member == user}
        grants = [what for what, whom in self.state["grants"] if whom in names]
        # Without any grant the engine would give all of them.
        grants = grants or ["SELECT ON system.one"]
        queries = "".join(f"<query>GRANT {escape(grant)}</query>" for grant in grants)
        filters = {}
        for _, database, table, condition, whom in self.state["policies"]:
            if whom in names:
                for name, value in own.items():
                    condition = condition.replace(f"getSetting('{name}')", literal(value))
                filters.setdefault((database, table), []).append(f"({condition})")
        policies = "".join(
            f"<{database}><{table}><filter>{escape(' OR '.join(conditions))}</filter></{table}></{database}>"
            for (database, table), conditions in filters.items()
        )
        return f"{head}<grants>{queries}</grants><databases>{policies}</databases>"


def plain(name):
    return name.strip("`")


def digest(password):
    return hashlib.sha256(password.encode()).hexdigest()


class Engine:
    """The one engine, open as one user at a time."""

    def __init__(self, directory):
        self.directory = directory
        self.lock = threading.Lock()
        self.connection = None
        self.profile = None
        self.database = None

    def open(self, profile):
        if self.profile == profile:
            return
        if self.connection is not None:
            self.connection.close()
            self.connection, self.profile = None, None
        users = os.path.join(self.directory, "users.xml")
        config = os.path.join(self.directory, "config.xml")
        with open(users, "w") as file:
            file.write(
                "<clickhouse><profiles><default/></profiles>"
                f"<quotas><default/></quotas><users><default>{profile}</default></users></clickhouse>"
            )
        with open(config, "w") as file:
            file.write(f"<clickhouse><users_config>{escape(users)}</users_config></clickhouse>")
        data = os.path.join(self.directory, "data")
        self.connection = chdb.connect(f"{data}?config-file={config}")
        self.profile, self.database = profile, "default"

    def run(self, profile, database, settings, params, sql, data, output):
        """Runs a statement, or inserts data where there is some."""
        with self.lock:
            self.open(profile)
            if database != self.database:
                self.connection.query(f"USE {quoted(database)}")
                self.database = database
            for name, value in settings.items():
                self.connection.query(f"SET {quoted(name)} = {literal(value)}")
            try:
                if data is None:
                    result = self.connection.query(sql, output, params=params)
                    return result.bytes(), result.storage_rows_read()
                self.insert(sql, data)
                return b"", 0
            finally:
                for name in settings:
                    self.connection.query(f"SET {quoted(name)} = DEFAULT")

    def insert(self, sql, data):
        match = re.fullmatch(r"\s*(INSERT\s.*?)\s+FORMAT\s+(\w+)\s*;?\s*", sql, re.DOTALL | re.IGNORECASE)
        if match is None:
            raise Refused(62, "an INSERT with data names its format last. (SYNTAX_ERROR)")
        # By way of a file, because the engine's own streaming insert does not tell of a failure.
        file = os.path.join(self.directory, "insert")
        with open(file, "wb") as rows:
            rows.write(data)
        self.connection.query(f"{match[1]} FROM INFILE {literal(file)} FORMAT {match[2]}")

    def formatted(self, sql):
        """The statement as the engine's parser understands it; nothing where it does not."""
        with self.lock:
            self.open(self.profile or ADMIN_PROFILE)
            query = f"SELECT formatQuerySingleLine({literal(sql)})"
            return self.connection.query(query, "RawBLOB").bytes().decode()


def quoted(name):
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def literal(value):
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # A small answer must not wait for the acknowledgement of the one before.
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self):
        if self.path == "/ping":
            self.answer(200, b"Ok.\n")
        else:
            self.query(b"")

    def do_POST(self):
        body = self.body()
        if body is not None:
            self.query(body)

    def body(self):
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            parts = []
            while True:
                size = int(self.rfile.readline().split(b";")[0] or b"-1", 16)
                chunk = self.rfile.read(size + 2) if size >= 0 else b""
                if len(chunk) != size + 2:
                    return self.gone()
                if size == 0:
                    return b"".join(parts)
                parts.append(chunk[:-2])
        size = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(size)
        return body if len(body) == size else self.gone()

    def gone(self):
        """The client left in the middle: nothing of it is carried out."""
        self.close_connection = True
        return None

    def query(self, body):
        try:
            result, read = self.run(body)
        except Exception as error:
            text = str(error)
            match = re.search(r"Code: (\d+)\. DB::Exception", text)
            code = int(match[1]) if match else 1002
            text = text[match.start():] if match else f"Code: 1002. DB::Exception: {text}"
            version = chdb.engine_version
            self.answer(STATUS.get(code, 500), f"{text} (version {version})\n".encode(), code)
        else:
            self.answer(200, result, read=read)

    def run(self, body):
        pairs = urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query, keep_blank_values=True)
        if "multipart/form-data" in self.headers.get("Content-Type", ""):
            pairs, body = pairs + self.form(body), b""
        given = dict(pairs)
        user, password = self.credentials(given)
        ACCESS.authenticate(user, password)
        sql, data = given.get("query", ""), None
        if not sql:
            sql = body.decode()
        elif re.match(r"\s*INSERT\b", sql, re.IGNORECASE) and re.search(r"\bFORMAT\s+\w+\s*;?\s*$", sql):
            data = body
        elif body:
            sql += "\n" + body.decode()
        if re.match(r"\s*((CREATE|ALTER|DROP)\s+(USER|ROLE|ROW\s+POLICY)|GRANT|REVOKE)\b", sql, re.IGNORECASE):
            if user != "admin":
                raise Refused(497, f"{user}: Not enough privileges. (ACCESS_DENIED)")
            with ACCESS.lock:
                ACCESS.apply(ENGINE.formatted(sql))
            return b"", 0
        params = {name[6:]: value for name, value in pairs if name.startswith("param_")}
        settings = {
            name: value for name, value in pairs
            if name not in NOT_SETTINGS and not name.startswith("param_")
        }
        database = given.get("database") or self.headers.get("X-ClickHouse-Database") or "default"
        output = given.get("default_format", "TabSeparated")
        own = re.compile(r"\bSETTINGS (SQL_\w+) = '((?:[^'\\]|\\.)*)'")
        profile = ACCESS.profile(user, {name: re.sub(r"\\(.)", r"\1", value) for name, value in own.findall(sql)})
        return ENGINE.run(profile, database, settings, params, own.sub("", sql), data, output)

    def form(self, body):
        """Names and values of a form."""
        boundary = b"--" + re.search(r"boundary=(\S+)", self.headers["Content-Type"])[1].encode()
        pairs = []
        for part in body.split(boundary)[1:-1]:
            head, _, value = part.partition(b"\r\n\r\n")
            pairs.append((re.search(rb'name="([^"]*)"', head)[1].decode(), value[:-2].decode()))
        return pairs

    def credentials(self, given):
        headers = self.headers
        if "X-ClickHouse-User" in headers:
            return headers["X-ClickHouse-User"], headers.get("X-ClickHouse-Key", "")
        if headers.get("Authorization", "").startswith("Basic "):
            user, _, password = base64.b64decode(headers["Authorization"][6:]).decode().partition(":")
            return user, password
        return given.get("user", "default"), given.get("password", "")

    def answer(self, status, body, code=None, read=None):
        self.send_response(status)
        self.send_header("X-ClickHouse-Server-Display-Name", "chdb")
        if read is not None:
            self.send_header("X-ClickHouse-Summary", json.dumps({"read_rows": str(read)}))
        if code is not None:
            self.send_header("X-ClickHouse-Exception-Code", str(code))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, form, *arguments):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    allow_reuse_address = True

    def handle_error(self, request, client_address):
        error = sys.exc_info()[1]
        if not isinstance(error, (ConnectionError, TimeoutError, ssl.SSLError)):
            super().handle_error(request, client_address)


def main():
    global ACCESS, ENGINE, ADMIN_PROFILE
    directory, port, tls_port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with open(os.path.join(directory, "password")) as file:
        ACCESS = Access(os.path.join(directory, "access.json"), file.read().strip())
    ADMIN_PROFILE = ACCESS.profile("admin")
    ENGINE = Engine(directory)
    with ENGINE.lock:
        ENGINE.open(ADMIN_PROFILE)
    plain = Server(("127.0.0.1", port), Handler)
    secure = Server(("127.0.0.1", tls_port), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.path.join(directory, "tls.pem"), os.path.join(directory, "tls.key"))
    # The handshake is done by the first read, in the thread of the connection.
    secure.socket = context.wrap_socket(secure.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=secure.serve_forever, daemon=True).start()
    plain.serve_forever()


if __name__ == "__main__":
    main()
