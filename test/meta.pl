# test/meta.pl FILE - is it what the PGXN Meta Spec 1.0.0 asks for?
#
# https://pgxn.org/spec/: the required fields, the types of all that are there,
# and that the files which it names exist and say the same version.

use strict;
use warnings;

use JSON::PP;

my $file = shift or die "usage: meta.pl META.json\n";
open my $in, '<:raw', $file or die "$file: $!\n";
my $meta = JSON::PP->new->utf8->decode(do { local $/; <$in> });
my @wrong;

sub wrong { push @wrong, @_; return }
sub is_text { return defined $_[0] && !ref $_[0] && length $_[0] }

# a semantic version, as PGXN has it
my $semver = qr/^(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)(?:-[0-9A-Za-z-]+)?$/;
my $term = qr/^[^\s\/\\\p{Cntrl}]{2,}$/;

for my $field (qw(name version abstract maintainer license provides meta-spec))
{
	wrong("$field is missing") unless defined $meta->{$field};
}
wrong("name is not a term") unless is_text($meta->{name}) && $meta->{name} =~ $term;
wrong("version is not a semantic version") unless ($meta->{version} // '') =~ $semver;
wrong("$_ is not a text") for grep { defined $meta->{$_} && !is_text($meta->{$_}) } qw(abstract description generated_by);
for my $list (qw(maintainer tags))
{
	next unless defined $meta->{$list};
	my @items = ref $meta->{$list} ? @{ $meta->{$list} } : $meta->{$list};
	wrong("$list is empty") unless @items && !grep { !is_text($_) } @items;
	wrong("tag $_ is longer than 255 bytes, or has a slash") for grep { $list eq 'tags' && (length > 255 || m{[/\\]}) } @items;
}
my %licenses = map { $_ => 1 } qw(agpl_3 apache_1_1 apache_2_0 artistic_1 artistic_2 bsd freebsd gfdl_1_2 gfdl_1_3 gpl_1 gpl_2 gpl_3
  lgpl_2_1 lgpl_3_0 mit mozilla_1_0 mozilla_1_1 openssl perl_5 postgresql qpl_1_0 ssleay sun zlib open_source restricted unrestricted unknown);
wrong("license is unknown to PGXN") if !ref $meta->{license} && !$licenses{ $meta->{license} // '' };
wrong("release_status is none") if defined $meta->{release_status} && $meta->{release_status} !~ /^(stable|testing|unstable)$/;
wrong("meta-spec is not version 1") unless ref $meta->{'meta-spec'} eq 'HASH' && ($meta->{'meta-spec'}{version} // '') =~ /^1\.0\.\d+$/;
for my $name (sort keys %{ $meta->{provides} || {} })
{
	my $provided = $meta->{provides}{$name};

	wrong("provides $name: no file")
	  unless is_text($provided->{file}) && -e $provided->{file};
	wrong("provides $name: no version") unless ($provided->{version} // '') =~ $semver;
	wrong("provides $name: docfile is not there") if defined $provided->{docfile} && !-e $provided->{docfile};
	my ($sql) = ($provided->{file} // '') =~ /--([\d.]+)\.sql$/;
	wrong("provides $name: file and version differ") if defined $sql && $provided->{version} !~ /^\Q$sql\E\b/;
}
for my $phase (sort keys %{ $meta->{prereqs} || {} })
{
	wrong("prereqs: no phase $phase") unless $phase =~ /^(configure|build|test|runtime|develop)$/;
	for my $relation (sort keys %{ $meta->{prereqs}{$phase} })
	{
		wrong("prereqs: no relation $relation") unless $relation =~ /^(requires|recommends|suggests|conflicts)$/;
		for my $module (sort keys %{ $meta->{prereqs}{$phase}{$relation} })
		{
			my $version = $meta->{prereqs}{$phase}{$relation}{$module};

			wrong("prereqs: $module has no version") unless $version eq '0' || $version =~ $semver || $version =~ /^[<>=!]/;
		}
	}
}
if (defined $meta->{resources})
{
	wrong("resources is not an object") unless ref $meta->{resources} eq 'HASH';
	for my $url (grep { defined } map { ref $_ ? $_->{url} // $_->{web} : $_ } values %{ $meta->{resources} })
	{
		wrong("resources: $url is no URL") unless $url =~ m{^(https?|git)://};
	}
}
my ($control) = do { open my $c, '<', 'resilience.control' or die "resilience.control: $!\n"; join '', <$c> } =~ /^default_version = '([^']+)'/m;
wrong("default_version $control is not that of META.json") unless $meta->{version} =~ /^\Q$control\E\b/;

print map { "META.json: $_\n" } @wrong;
exit(@wrong ? 1 : 0);
