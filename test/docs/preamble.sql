-- What the examples of the documentation assume: roles, tables, a foreign
-- server.  Run in a fresh database for each document.
SET client_min_messages = warning;
CREATE EXTENSION resilience;
CREATE EXTENSION postgres_fdw;
CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host :'host', port :'port', dbname 'remote');
CREATE USER MAPPING FOR CURRENT_USER SERVER far;
CREATE FOREIGN TABLE price (item int, price numeric) SERVER far OPTIONS (table_name 'price');
CREATE SCHEMA shop;
CREATE TABLE shop.orders (id int PRIMARY KEY, item int, stuck boolean DEFAULT false);
INSERT INTO shop.orders SELECT i, i FROM generate_series(1, 100) i;
CREATE TABLE orders (id int PRIMARY KEY, customer int, total numeric, placed_at timestamptz DEFAULT now());
CREATE TABLE accounts (id int PRIMARY KEY, balance numeric);
INSERT INTO accounts SELECT i, 100 FROM generate_series(1, 10) i;
CREATE TABLE item (id int PRIMARY KEY, name text);
CREATE FUNCTION charge(int, int) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE TABLE stock (item int PRIMARY KEY, n int);
INSERT INTO stock SELECT i, 10 FROM generate_series(1, 10) i;
CREATE TABLE shop.index_runs (built_at timestamptz DEFAULT now());
CREATE SCHEMA app;
CREATE TABLE app.mail (sent_at timestamptz);
CREATE EXTENSION pg_stat_statements;
CREATE TABLE app.rates (at timestamptz DEFAULT now());
CREATE TABLE shop.bestsellers (id int, title text, rank int);
CREATE FUNCTION shop.similar(int) RETURNS TABLE (id int, title text) LANGUAGE sql AS 'SELECT 1, ''like it''';
CREATE SERVER shop FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host :'host', port :'port', dbname 'remote');
CREATE TABLE a (n int); CREATE TABLE b (n int);
INSERT INTO a VALUES (1); INSERT INTO b VALUES (1);
