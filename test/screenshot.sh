#!/usr/bin/env bash
#
# test/screenshot.sh [FOLDER] - pictures of the status page, for the README
#
# Starts a server that has something to show (bulkheads, one of them full; a
# breaker that is open; checks of several kinds; features, one of them degraded;
# a load for some seconds), and lets headless Chromium draw its page: light, dark,
# and as wide as a phone.  FOLDER is docs/images, where only the first is kept.
#
# Needs what "make check" installs; pngquant makes the pictures smaller if it is there.

set -euo pipefail
cd "$(dirname "$0")/.."
. test/lib.sh

folder=${1:-docs/images}
command -v chromium >/dev/null || command -v google-chrome >/dev/null ||
	die "no Chromium here (test/setup.sh check installs it)"
have_extension || die "resilience is not installed: make install"

rsl_begin
http=127.0.0.1:$(free_port)
start_cluster shop "shared_preload_libraries = 'resilience'" "cluster_name = 'shop-db-1'" \
	"resilience.http_listen = '$http'" 'resilience.max_running = 12' 'max_connections = 60' 'fsync = off'
sql shop "
	CREATE EXTENSION resilience;
	CREATE EXTENSION postgres_fdw;
	CREATE ROLE reporting LOGIN; CREATE ROLE web LOGIN;
	GRANT pg_read_all_data TO reporting, web;
	ALTER ROLE web SET resilience.priority = 'high';
	CREATE TABLE orders AS SELECT g AS id, g % 97 AS customer, md5(g::text) AS note FROM generate_series(1, 200000) g;
	CREATE SERVER billing FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '1', dbname 'billing');
	CREATE USER MAPPING FOR PUBLIC SERVER billing;
	CREATE FOREIGN TABLE invoices (id int) SERVER billing;
	SELECT resilience.create_bulkhead('reports', role_name => 'reporting', max_connections => 20, max_running => 3,
		max_waiting => 4, priority => 'low');
	SELECT resilience.create_bulkhead('web', role_name => 'web', max_connections => 40, max_running => 20);
	SELECT resilience.create_breaker('billing', server => 'billing', max_failures => 3, reset_timeout => '1 min');
	SELECT resilience.create_health_check('orders are there', query => 'SELECT count(*) > 0 FROM public.orders WHERE id < 10',
		check_interval => '2 s', critical => true);
	SELECT resilience.create_health_check('queue of orders', query => 'SELECT count(*) FROM public.orders WHERE id <= 120',
		warning_threshold => 100, critical_threshold => 500, check_interval => '2 s');
	SELECT resilience.create_health_check('connections', kind => 'connections', check_interval => '2 s');
	SELECT resilience.create_health_check('disk', kind => 'disk_free', check_interval => '2 s',
		warning_threshold => 0.02, critical_threshold => 0.01);
	SELECT resilience.create_feature('recommendations', breaker => 'billing', description => 'who bought this also bought');
	SELECT resilience.create_feature('search suggestions', dimmable => true);
	SELECT resilience.create_feature('gift wrapping');
	SELECT resilience.set_feature('gift wrapping', false, 'out of paper');" >/dev/null

# some seconds of load: the web's short queries, reports that queue
cat >"$RSL_TMP/web.sql" <<-'SQL'
	\set id random(1, 200000)
	SELECT resilience.feature_enabled('search suggestions'), note FROM orders WHERE id = :id LIMIT 1;
SQL
cat >"$RSL_TMP/report.sql" <<-'SQL'
	SELECT customer, count(*) FROM orders GROUP BY customer;
SQL
background exec_on shop pgbench -n -U web -c 3 -R 60 -T 150 -f "$RSL_TMP/web.sql" >/dev/null 2>&1
background exec_on shop pgbench -n -U reporting -c 9 -T 150 --max-tries=1 -f "$RSL_TMP/report.sql" >/dev/null 2>&1
for i in {1..12}; do
	sql shop 'SELECT * FROM invoices' >/dev/null 2>&1 || true
	for j in {1..20}; do on shop psql -X -q -At -U reporting -c 'SELECT 1' >/dev/null 2>&1 || true; done
	sleep 1.5
done

mkdir -p "$folder"
perl -Itest/perl - "http://$http/" "$folder" <<-'PERL'
	use strict;
	use warnings;
	use Browser;
	my ($url, $folder) = @ARGV;
	my $browser = Browser->new;
	my @pictures = ([ 'status-page', 960, {} ]);
	push @pictures, [ 'status-page-dark', 960, { dark => 1 } ], [ 'status-page-phone', 360, { phone => 1 } ]
	  if $folder ne 'docs/images';
	for my $picture (@pictures)
	{
		my ($name, $width, $how) = @$picture;
		$browser->screen($width, 600, %$how);
		$browser->open_page($url);
		sleep 2;
		my $height = $browser->value('document.documentElement.scrollHeight');
		$browser->screen($width, $height, %$how);
		$browser->picture("$folder/$name.png");
	}
PERL

# A picture in a README had better be small.
! command -v pngquant >/dev/null ||
	pngquant --force --ext .png --skip-if-larger 64 "$folder"/status-page*.png || true
ls -l "$folder"/status-page*.png
