CREATE TABLE tenants (
    tenant INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    champion TEXT,
    last_version_number INTEGER DEFAULT '0' NOT NULL,
    UNIQUE (name)
);

CREATE TABLE turns (
    seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    tenant INTEGER NOT NULL,
    turn_id TEXT NOT NULL,
    awaiting_curation BOOLEAN NOT NULL,
    has_words BOOLEAN NOT NULL,
    revision INTEGER NOT NULL,
    body TEXT NOT NULL,
    CONSTRAINT turns_by_id UNIQUE (tenant, turn_id),
    FOREIGN KEY(tenant) REFERENCES tenants (tenant)
);

CREATE INDEX turns_in_order ON turns (tenant, seq);

CREATE INDEX turns_awaiting ON turns (tenant, seq) WHERE awaiting_curation;

CREATE TABLE examples (
    seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    tenant INTEGER NOT NULL,
    example_id TEXT NOT NULL,
    text TEXT NOT NULL,
    intent TEXT,
    sentiment TEXT,
    entities TEXT,
    source TEXT NOT NULL,
    quality FLOAT NOT NULL,
    "key" TEXT NOT NULL,
    group_key TEXT NOT NULL,
    stratum TEXT NOT NULL,
    split TEXT NOT NULL,
    state TEXT NOT NULL,
    users INTEGER NOT NULL,
    user_id TEXT,
    turn_id TEXT,
    draw FLOAT NOT NULL,
    rejections INTEGER NOT NULL,
    reason TEXT,
    learned_in TEXT,
    created_at BIGINT NOT NULL,
    CONSTRAINT examples_by_id UNIQUE (tenant, example_id),
    FOREIGN KEY(tenant) REFERENCES tenants (tenant)
);

CREATE INDEX examples_by_key ON examples (tenant, "key");

CREATE INDEX examples_by_turn ON examples (tenant, turn_id);

CREATE INDEX examples_by_state ON examples (tenant, state, split, seq);

CREATE INDEX examples_to_replay ON examples (tenant, stratum, draw) WHERE state = 'learned' AND split = 'train';

CREATE TABLE groups (
    tenant INTEGER NOT NULL,
    group_key TEXT NOT NULL,
    split TEXT NOT NULL,
    members INTEGER NOT NULL,
    PRIMARY KEY (tenant, group_key),
    FOREIGN KEY(tenant) REFERENCES tenants (tenant)
)
 WITHOUT ROWID;

CREATE TABLE counters (
    tenant INTEGER NOT NULL,
    family TEXT NOT NULL,
    name TEXT NOT NULL,
    value FLOAT NOT NULL,
    PRIMARY KEY (tenant, family, name),
    FOREIGN KEY(tenant) REFERENCES tenants (tenant)
)
 WITHOUT ROWID;

CREATE TABLE cycles (
    seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    tenant INTEGER NOT NULL,
    cycle_id TEXT NOT NULL,
    mode TEXT NOT NULL,
    reason TEXT,
    stage TEXT NOT NULL,
    token BIGINT NOT NULL,
    started_at BIGINT NOT NULL,
    finished_at BIGINT,
    result TEXT,
    CONSTRAINT cycles_by_id UNIQUE (tenant, cycle_id),
    FOREIGN KEY(tenant) REFERENCES tenants (tenant)
);

CREATE INDEX cycles_in_order ON cycles (tenant, seq);

CREATE INDEX cycles_unfinished ON cycles (tenant, seq) WHERE finished_at IS NULL;

CREATE TABLE leases (
    tenant INTEGER NOT NULL,
    owner TEXT,
    token BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (tenant),
    FOREIGN KEY(tenant) REFERENCES tenants (tenant)
);

CREATE TABLE versions (
    seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    tenant INTEGER NOT NULL,
    version TEXT NOT NULL,
    body TEXT NOT NULL,
    CONSTRAINT versions_by_name UNIQUE (tenant, version),
    FOREIGN KEY(tenant) REFERENCES tenants (tenant)
);

CREATE INDEX versions_in_order ON versions (tenant, seq);

CREATE TABLE lineage (
    version INTEGER NOT NULL,
    example INTEGER NOT NULL,
    PRIMARY KEY (version, example),
    FOREIGN KEY(version) REFERENCES versions (seq),
    FOREIGN KEY(example) REFERENCES examples (seq)
)
 WITHOUT ROWID;

CREATE INDEX lineage_by_example ON lineage (example, version);

