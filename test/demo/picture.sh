#!/usr/bin/env bash
#
# test/demo/picture.sh SAMPLES SCENES OUTPUT.svg - the picture of a demo
#
# SAMPLES: lines of epoch, running, waiting, limit, admitted_total, refused_total,
# breaker (0 closed, 1 half-open, 2 open; empty = none), experiments that run;
# separated by "|".  SCENES: lines of epoch, a tab, and a label.

set -euo pipefail
samples=$1
scenes=$2
output=$3

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Rates per second over what the sampler saw; gaps are where it was not served.
awk -F'|' -v OFS='\t' '
	NF >= 8 && $1 > 0 {
		if (begin == "") begin = $1
		t = $1 - begin
		if (last != "" && $1 - last >= 0.15 && $1 - last < 5)
		{
			good = ($5 - admitted) / ($1 - last)
			shed = ($6 - refused) / ($1 - last)
			if (good >= 0 && shed >= 0)
				print t, $2 + $3, ($4 > 0 ? $4 : "NaN"), good, shed, ($7 == "" ? "NaN" : $7), $8
		}
		if (last == "" || $1 - last >= 0.15) { last = $1; admitted = $5; refused = $6 }
	}' "$samples" >"$work/data.tsv"
[ -s "$work/data.tsv" ] || { echo "picture: no samples" >&2; exit 1; }
begin=$(awk -F'|' 'NF >= 8 && $1 > 0 { print $1; exit }' "$samples")
length=$(tail -n 1 "$work/data.tsv" | cut -f 1)

# Windows in which an experiment ran, as grey boxes; scenes, as lines and labels.
awk -F'\t' '
	$7 > 0 && !on { on = 1; from = $1 }
	on { to = $1 }
	$7 == 0 && on { on = 0; n++; printf "set object %d rectangle from %f, graph 0 to %f, graph 1 behind fillcolor rgb \"#dddddd\" fillstyle solid noborder\n", n, from, to }
	END { if (on) { n++; printf "set object %d rectangle from %f, graph 0 to %f, graph 1 behind fillcolor rgb \"#dddddd\" fillstyle solid noborder\n", n, from, to } }
	' "$work/data.tsv" >"$work/chaos.gp"
awk -F'\t' -v begin="$begin" '{
		t = $1 - begin
		if (t < 0) t = 0
		printf "set arrow from %f, graph 0 to %f, graph 1 nohead dashtype 3 linecolor rgb \"#888888\"\n", t, t
	}' "$scenes" >"$work/lines.gp"
awk -F'\t' -v begin="$begin" '{
		t = $1 - begin
		if (t < 0) t = 0
		gsub(/"/, "", $2)
		printf "set label \"%s\" at %f, graph %s left font \",11\" noenhanced\n", $2, t, NR % 2 ? 1.06 : 1.15
	}' "$scenes" >"$work/labels.gp"

# colours of Okabe and Ito, that everybody can tell apart
gnuplot <<GP
set terminal svg size 1200,760 font "sans,13" background "#ffffff"
set output "$output"
set datafile separator "\t"
set multiplot
set lmargin at screen 0.085
set rmargin at screen 0.98
set xrange [0:$length]
set grid ytics linecolor rgb "#cccccc"
set border 3
set tics nomirror
set key top right opaque font ",11"
load "$work/lines.gp"
load "$work/chaos.gp"

set format x ""
set tmargin at screen 0.88
set bmargin at screen 0.64
set ylabel "transactions"
set label 1000 "The demo: what came, what was done, and what was kept away" at screen 0.075, screen 0.965 left font ",16"
load "$work/labels.gp"
set logscale y
set yrange [1:*]
plot "$work/data.tsv" using 1:(\$2 > 0 ? \$2 : 1) with lines linewidth 2 linecolor rgb "#0072B2" title "offered: want to run at once", \
	"" using 1:3 with steps linewidth 2 dashtype 2 linecolor rgb "#D55E00" title "limit in force"
unset label

set tmargin at screen 0.59
set bmargin at screen 0.30
set ylabel "per second"
set yrange [1:*]
plot "$work/data.tsv" using 1:(\$4 > 1 ? \$4 : 1) with lines linewidth 2 linecolor rgb "#009E73" title "goodput: transactions let in", \
	"" using 1:(\$5 > 1 ? \$5 : 1) with lines linewidth 2 linecolor rgb "#CC79A7" title "shed: refused"
unset logscale y

set format x "%g"
set tmargin at screen 0.25
set bmargin at screen 0.09
set xlabel "seconds since the first scene (grey: a chaos experiment runs)"
set ylabel "breaker" offset 1,0
set yrange [-0.3:2.3]
set key top left opaque font ",11"
set ytics ("closed" 0, "half-open" 1, "open" 2)
plot "$work/data.tsv" using 1:6 with steps linewidth 2 linecolor rgb "#E69F00" title "circuit breaker of the foreign server"
unset multiplot
GP
[ -s "$output" ]
