/*-------------------------------------------------------------------------
 *
 * status_frame.c
 *		What stands around the status page's contents: style and script.
 *
 * All in one answer, nothing from elsewhere.  The policy names what the page
 * may use by the hashes of style and script, so that nothing else can run,
 * whatever a name or a message may contain.  The script does one thing: it
 * fetches the contents again each second.  Without it the page is as it was.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "common/base64.h"
#include "common/cryptohash.h"
#include "common/sha2.h"
#include "endpoint/status_page.h"
#include "utils/memutils.h"

static const char style[] =
":root{color-scheme:light dark;"
"--bg:#f6f7f9;--card:#fff;--line:#dfe3e8;--text:#1b2026;--dim:#5c6672;"
"--ok:#1a7f37;--warn:#946200;--bad:#c62a34;--none:#6d5bb0;"
"--okbg:#e3f4e7;--warnbg:#fdf1d3;--badbg:#fce6e7;--nonebg:#eeebf9;--line2:#2f6fb5;--area:#2f6fb522}"
"@media(prefers-color-scheme:dark){:root{"
"--bg:#12161b;--card:#1b2027;--line:#313945;--text:#e6e9ee;--dim:#9aa5b3;"
"--ok:#57c575;--warn:#e2b04a;--bad:#ff7b81;--none:#b3a4f2;"
"--okbg:#16311f;--warnbg:#372b0e;--badbg:#421d21;--nonebg:#2a2545;--line2:#77b0ec;--area:#77b0ec2b}}"
"*{box-sizing:border-box}"
"body{margin:0;background:var(--bg);color:var(--text);"
"font:15px/1.45 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif}"
"main,footer{max-width:68rem;margin:0 auto;padding:0 1rem}"
"header{display:flex;flex-wrap:wrap;align-items:center;gap:.4rem 1rem;padding:1rem;margin:1rem 0;"
"border-radius:.6rem;border:1px solid}"
"header h1{font-size:1.45rem;line-height:1.2;margin:0;display:flex;align-items:center;gap:.6rem}"
"header p{margin:0;color:var(--text);flex:1 1 14rem}"
"header .dim{display:block}"
"h2{font-size:1rem;margin:0 0 .6rem}"
".dim{color:var(--dim);font-weight:400}"
".mark{display:inline-flex;align-items:center;justify-content:center;width:1.7em;height:1.7em;"
"border-radius:50%;border:2px solid;font-weight:700;font-size:.95em;flex:none}"
".healthy{color:var(--ok)}.degraded{color:var(--warn)}.unhealthy{color:var(--bad)}.unknown{color:var(--none)}"
"header.healthy{background:var(--okbg)}header.degraded{background:var(--warnbg)}"
"header.unhealthy{background:var(--badbg)}header.unknown{background:var(--nonebg)}"
".badge{display:inline-block;padding:.05em .55em;border-radius:1em;font-size:.86em;font-weight:600;white-space:nowrap}"
".badge.healthy{background:var(--okbg)}.badge.degraded{background:var(--warnbg)}"
".badge.unhealthy{background:var(--badbg)}.badge.unknown{background:var(--nonebg)}"
"section{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:.9rem 1rem;margin:0 0 1rem}"
".tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));gap:.8rem}"
".tiles div{min-width:0}"
".tiles b{display:block;font-size:1.35rem;line-height:1.25;font-weight:600;font-variant-numeric:tabular-nums}"
".tiles b small{font-size:.85rem;color:var(--dim);font-weight:400}"
".curve{display:block;width:100%;height:2.2rem;margin-top:.2rem}"
".curve .a{fill:var(--area);stroke:none}"
".curve .l{fill:none;stroke:var(--line2);stroke-width:1.5;vector-effect:non-scaling-stroke;stroke-linejoin:round}"
".strip{display:block;width:100%;height:1.1rem;margin:.7rem 0 .1rem}"
".strip .healthy{fill:var(--ok)}.strip .degraded{fill:var(--warn)}"
".strip .unhealthy{fill:var(--bad)}.strip .unknown{fill:var(--none)}"
"table{width:100%;border-collapse:collapse;font-variant-numeric:tabular-nums}"
"th,td{text-align:left;vertical-align:top;padding:.35rem .6rem .35rem 0;border-top:1px solid var(--line);"
"overflow-wrap:anywhere}"
"thead th{border:0;color:var(--dim);font-weight:500;font-size:.86rem;padding-top:0;overflow-wrap:normal}"
"tbody th{font-weight:600;min-width:9.5em}"
"tbody th small,td small{display:block;color:var(--dim);font-weight:400}"
".n{text-align:right;white-space:nowrap}.t{white-space:nowrap}"
".hidden{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}"
".pair{display:grid;gap:0 1rem;grid-template-columns:repeat(auto-fit,minmax(min(26rem,100%),1fr))}"
".pair section{min-width:0}"
"th:last-child,td:last-child{padding-right:0}"
".bar{display:block;width:100%;min-width:4rem;height:.5rem;margin-top:.3rem;background:var(--line);border-radius:.25rem}"
".bar rect{fill:var(--line2)}.bar.full rect{fill:var(--warn)}"
"td.meter{width:26%;white-space:nowrap}"
"footer{color:var(--dim);font-size:.86rem;padding-bottom:1.5rem}"
"a{color:var(--line2)}"
".stale main{opacity:.45}"
"#live{min-height:1.45em;margin:.5rem 0 0}"
".stale #live{color:var(--bad);font-weight:600}"
"@media(max-width:34rem){.wide{display:none}main,footer{padding:0 .6rem}"
"section{padding:.7rem .7rem}.tiles{grid-template-columns:1fr 1fr}th,td{padding-right:.4rem}tbody th{min-width:7.5em}td.meter{width:24%}.bar{min-width:2.5rem}}";

static const char script[] =
"(()=>{const m=document.querySelector('main'),n=document.getElementById('live');"
"let seen=Date.now(),said='';"
"const say=t=>{if(t!==said)n.textContent=said=t};"
"async function look(){try{"
"const r=await fetch('/status',{cache:'no-store',signal:AbortSignal.timeout(4000)});"
"if(!r.ok)throw r.status;const h=await r.text();seen=Date.now();"
"if(getSelection().isCollapsed){m.innerHTML=h;const t=m.querySelector('[data-title]');"
"if(t)document.title=t.dataset.title}"
"document.body.classList.remove('stale');say('Refreshed each second.')"
"}catch(e){document.body.classList.add('stale');"
"say('No answer since '+new Date(seen).toLocaleTimeString()+': what is shown is as old.')}"
"setTimeout(look,document.hidden?10000:1000)}"
"setTimeout(look,1000)})()";

/* 'sha256-...' of a text, as a policy has it. */
static void
append_hash(StringInfo out, const char *text, size_t length)
{
	pg_cryptohash_ctx *context = pg_cryptohash_create(PG_SHA256);
	uint8		hash[PG_SHA256_DIGEST_LENGTH];
	char		encoded[64];
	int			n;

	if (context == NULL ||
		pg_cryptohash_init(context) < 0 ||
		pg_cryptohash_update(context, (const uint8 *) text, length) < 0 ||
		pg_cryptohash_final(context, hash, sizeof(hash)) < 0)
		elog(ERROR, "cannot make a hash");
	pg_cryptohash_free(context);
	n = pg_b64_encode((const void *) hash, sizeof(hash), encoded, sizeof(encoded));
	if (n < 0)
		elog(ERROR, "cannot encode a hash");
	appendStringInfo(out, "'sha256-%.*s'", n, encoded);
}

const char *
rsl_status_policy(void)
{
	static char *policy = NULL;
	StringInfoData text;

	if (policy != NULL)
		return policy;
	initStringInfo(&text);
	appendStringInfoString(&text, "default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; style-src ");
	append_hash(&text, style, strlen(style));
	appendStringInfoString(&text, "; script-src ");
	append_hash(&text, script, strlen(script));
	policy = MemoryContextStrdup(TopMemoryContext, text.data);
	return policy;
}

void
rsl_status_begin(StringInfo out, const char *title)
{
	appendStringInfo(out,
					 "<!doctype html>\n"
					 "<html lang=\"en\"><head><meta charset=\"utf-8\">"
					 "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">"
					 "<meta name=\"robots\" content=\"noindex\">"
					 "<link rel=\"icon\" href=\"data:,\">"
					 "<title>%s</title>\n<style>%s</style></head>\n<body><main>\n",
					 title, style);
}

void
rsl_status_end(StringInfo out)
{
	appendStringInfo(out,
					 "</main>\n<footer><p id=\"live\" role=\"status\">Reload the page for newer figures.</p>"
					 "<p>For programs: <a href=\"/health\">/health</a> "
					 "<a href=\"/ready\">/ready</a> <a href=\"/replica\">/replica</a> "
					 "<a href=\"/live\">/live</a> <a href=\"/metrics\">/metrics</a></p></footer>\n"
					 "<script>%s</script></body></html>\n",
					 script);
}
