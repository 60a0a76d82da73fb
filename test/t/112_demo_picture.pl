# The picture at the end of "make demo": each curve is there, with its data, the
# scenes have their names, and the experiment its grey window.

use strict;
use warnings;

use FindBin;
use File::Temp qw(tempdir);
use Test::More;

my $script = "$FindBin::RealBin/../demo/picture.sh";

if (!grep { -x "$_/gnuplot" } split /:/, $ENV{PATH})
{
	plan skip_all => 'no gnuplot here' if $ENV{RSL_NO_PROMETHEUS} || !-e '/etc/debian_version';
	fail('gnuplot is not installed: test/setup.sh check');
	done_testing();
	exit;
}

my $dir = tempdir(CLEANUP => 1);

sub picture
{
	my (%change) = @_;
	my ($admitted, $refused) = (0, 0);

	open my $samples, '>', "$dir/samples" or die;
	for my $i (0 .. 300)
	{
		my $t = 1_800_000_000 + $i * 0.2;
		my %at = (
			running => $i < 100 ? 8 : 3, waiting => $i < 100 ? 200 : 0, limit => $i < 100 ? 8 : -1,
			breaker => $i < 150 ? '' : $i < 200 ? 0 : 2, chaos => $i >= 200 && $i < 250 ? 1 : 0, %change);

		$admitted += 50;
		$refused += $i > 50 && $i < 60 ? 20 : 0;
		print $samples join('|', $t, @at{qw(running waiting limit)}, $admitted, $refused, @at{qw(breaker chaos)}), "\n";
	}
	print $samples "a line that was cut|3\n";
	close $samples;
	open my $scenes, '>', "$dir/scenes" or die;
	print $scenes "1800000000.0\t1 overload\n1800000030.5\t2 \"quoted\" & <odd>\n";
	close $scenes;
	system($script, "$dir/samples", "$dir/scenes", "$dir/out.svg") == 0 or return '';
	open my $svg, '<', "$dir/out.svg" or return '';
	return do { local $/; <$svg> };
}

# every tag that is opened is closed, in order
sub well_formed
{
	my ($text) = @_;
	my @open;

	$text =~ s/<\?.*?\?>|<!--.*?-->|<!\[CDATA\[.*?\]\]>|<!DOCTYPE.*?>//gs;
	return 0 if $text =~ /&(?!(?:amp|lt|gt|quot|apos|#\d+);)/;
	while ($text =~ m{<(/?)([\w:]+)([^<>]*?)(/?)>}g)
	{
		if ($1) { return 0 unless @open && pop(@open) eq $2 }
		elsif (!$4) { push @open, $2 }
	}
	return !@open;
}

my $svg = picture();
ok(well_formed($svg), 'well-formed');
like($svg, qr/^<\?xml.*<svg/s, 'an SVG');
for my $text ('offered: want to run at once', 'limit in force', 'goodput: transactions let in', 'shed: refused',
	'circuit breaker of the foreign server', '1 overload', 'seconds since the first scene')
{
	like($svg, qr/\Q$text\E/, "it says \"$text\"");
}
like($svg, qr/2 quoted &amp; &lt;odd(?:&gt;|>)/, 'labels are escaped');
my @lines = $svg =~ /<path stroke='rgb\((.*?)\)'[^>]*d='([^']*)'/g;
for my $curve ([ 'offered', '0, 114, 178' ], [ 'limit', '213,  94,   0' ], [ 'goodput', '0, 158, 115' ],
	[ 'shed', '204, 121, 167' ], [ 'breaker', '230, 159,   0' ])
{
	my $points = 0;
	my ($name, $colour) = @$curve;

	for my $i (0 .. $#lines / 2)
	{
		(my $rgb = $lines[ 2 * $i ]) =~ s/\s+/ /g;
		(my $wanted = $colour) =~ s/\s+/ /g;
		$rgb =~ s/^ //;
		$points += () = $lines[ 2 * $i + 1 ] =~ /\d+\.?\d*,\d+/g if $rgb eq $wanted;
	}
	cmp_ok($points, '>', 5, "$name has data");
}
like($svg, qr/fill\s*=\s*'rgb\(221, 221, 221\)'/, 'the experiment has its window');
unlike(picture(chaos => 0), qr/rgb\(221, 221, 221\)/, 'which is not there without one');

open my $nothing, '>', "$dir/samples" or die;
close $nothing;
isnt(system("$script $dir/samples $dir/scenes $dir/out2.svg 2>/dev/null"), 0, 'without samples there is no picture');

done_testing();
