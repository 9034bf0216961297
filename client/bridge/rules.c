/*
 * The file of rules: lines "name = value", first of the broker, then after each line
 * [FILTER] of what matches it.  A line that begins with # says nothing.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "rules.h"

typedef struct Reading
{
	Rules	   *rules;
	const char *name;			/* of the file */
	int			line;
	bool		has_poison;
	void		(*complain) (const char *format,...);
} Reading;

static bool
wrong(const Reading *reading, int line, const char *what)
{
	reading->complain("%s:%d: %s", reading->name, line, what);
	return false;
}

/* Without the blanks at both ends; changes the text. */
static char *
trim(char *text)
{
	char	   *end;

	text += strspn(text, " \t");
	end = text + strlen(text);
	while (end > text && strchr(" \t\r\n", end[-1]))
		*--end = 0;
	return text;
}

/* HOST, HOST:PORT or [ADDRESS]:PORT */
static bool
read_broker(Rules *rules, const char *value)
{
	const char *colon = strrchr(value, ':');
	size_t		length = colon ? (size_t) (colon - value) : strlen(value);

	if (value[0] == '[' && strchr(value, ']'))
	{
		const char *end = strchr(value, ']');

		if (end[1] && end[1] != ':')
			return false;
		colon = end[1] ? end + 1 : NULL;
		value++;
		length = (size_t) (end - value);
	}
	if (length == 0 || (colon && (!colon[1] || colon[1 + strspn(colon + 1, "0123456789")])))
		return false;
	rules->host = memcpy(iotmq_allocate(length + 1), value, length);
	rules->port = colon ? iotmq_copy(colon + 1) : NULL;
	return true;
}

/* The first line of a file */
static char *
read_password(const char *name)
{
	FILE	   *file = fopen(name, "r");
	char	   *password = NULL;
	size_t		size = 0;
	ssize_t		length = file ? getline(&password, &size, file) : -1;

	if (file)
		fclose(file);
	if (length >= 0)
	{
		password[strcspn(password, "\r\n")] = 0;
		return password;
	}
	free(password);
	return NULL;
}

static bool
read_keep_alive(Rules *rules, const char *value)
{
	char	   *end;
	long		seconds = strtol(value, &end, 10);

	rules->keep_alive = (int) seconds;
	return end != value && !*end && seconds >= 1 && seconds <= 65535;	/* MQTT 3.1.1, section 3.1.2.10 */
}

static bool
set_text(char **text, const char *value)
{
	free(*text);
	*text = iotmq_copy(value);
	return *value && strlen(value) <= 65535;
}

static bool
set_switch(bool *on, const char *value)
{
	*on = strcmp(value, "on") == 0;
	return *on || strcmp(value, "off") == 0;
}

/* Returns false for a bad value, and for a name that is none of the broker's with "known". */
static bool
set_of_broker(Reading *reading, const char *name, const char *value, bool *known)
{
	Rules	   *rules = reading->rules;

	if (strcmp(name, "broker") == 0)
		return read_broker(rules, value);
	if (strcmp(name, "tls") == 0)
		return set_switch(&rules->tls, value);
	if (strcmp(name, "ca-file") == 0)
		return set_text(&rules->ca_file, value);
	if (strcmp(name, "cert-file") == 0)
		return set_text(&rules->cert_file, value);
	if (strcmp(name, "key-file") == 0)
		return set_text(&rules->key_file, value);
	if (strcmp(name, "user") == 0)
		return set_text(&rules->user, value);
	if (strcmp(name, "password-file") == 0)
		return (rules->password = read_password(value)) != NULL && strlen(rules->password) <= 65535;
	if (strcmp(name, "client-id") == 0)
		return set_text(&rules->client_id, value);
	if (strcmp(name, "keep-alive") == 0)
		return read_keep_alive(rules, value);
	if (strcmp(name, "poison") == 0)
	{
		reading->has_poison = true;
		return strcmp(value, "none") == 0 || set_text(&rules->poison, value);
	}
	*known = false;
	return false;
}

static bool
add_property(Rule *rule, const char *name, const char *value)
{
	Property  **last = &rule->properties;

	while (*last)
	{
		if (strcmp((*last)->name, name) == 0)
			return false;
		last = &(*last)->next;
	}
	*last = iotmq_allocate(sizeof(Property));
	(*last)->name = iotmq_copy(name);
	(*last)->value = iotmq_copy(value);
	return *name && !template_check(value, &rule->filter);
}

static bool
set_template(char **text, const char *value, const Filter *filter)
{
	return set_text(text, value) && !template_check(value, filter);
}

static bool
set_content(Rule *rule, const char *value)
{
	rule->content = strcmp(value, "json") == 0 ? CONTENT_JSON : strcmp(value, "body") == 0 ? CONTENT_BODY : CONTENT_AUTO;
	return rule->content != CONTENT_AUTO || strcmp(value, "auto") == 0;
}

static bool
set_of_rule(Rule *rule, const char *name, const char *value, bool *known)
{
	if (strcmp(name, "topic") == 0)
		return set_text(&rule->topic, value) && !strpbrk(value, "{}");
	if (strcmp(name, "zone") == 0)
		return set_template(&rule->zone, value, &rule->filter);
	if (strcmp(name, "device") == 0)
		return set_template(&rule->device, value, &rule->filter);
	if (strcmp(name, "tag") == 0)
		return set_template(&rule->tag, value, &rule->filter);
	if (strcmp(name, "key") == 0)
		return set_template(&rule->key, value, &rule->filter);
	if (strcmp(name, "share") == 0)
		return set_text(&rule->share, value) && !strpbrk(value, "/+#");
	if (strcmp(name, "payload") == 0)
		return set_content(rule, value);
	if (strncmp(name, "property.", 9) == 0)
		return add_property(rule, name + 9, value);
	*known = false;
	return false;
}

static bool
begin_rule(Reading *reading, char *text)
{
	Rules	   *rules = reading->rules;
	Rule	   *rule = &rules->rules[rules->count];
	size_t		length = strlen(text);
	const char *error;

	if (text[length - 1] != ']')
		return wrong(reading, reading->line, "a filter ends with ]");
	if (rules->count == MOST_RULES)
		return wrong(reading, reading->line, "there are more than 64 rules");
	text[length - 1] = 0;
	rules->count++;
	rule->line = reading->line;
	error = filter_read(&rule->filter, trim(text + 1));
	return error ? wrong(reading, reading->line, error) : true;
}

static bool
read_line(Reading *reading, char *text)
{
	Rules	   *rules = reading->rules;
	bool		known = true;
	char	   *equals;

	text = trim(text);
	if (!*text || *text == '#')
		return true;
	if (*text == '[')
		return begin_rule(reading, text);
	equals = strchr(text, '=');
	if (!equals)
		return wrong(reading, reading->line, "this is no \"name = value\"");
	*equals = 0;
	text = trim(text);
	if (rules->count == 0 ? set_of_broker(reading, text, trim(equals + 1), &known) :
		set_of_rule(&rules->rules[rules->count - 1], text, trim(equals + 1), &known))
		return true;
	reading->complain(known ? "%s:%d: a bad value of \"%s\"" : "%s:%d: there is no setting \"%s\" here", reading->name,
					  reading->line, text);
	return false;
}

static bool
finish_rule(const Reading *reading, Rule *rule)
{
	if (!rule->topic)
		return wrong(reading, rule->line, "this rule has no \"topic\"");
	if (!rule->device)
		return wrong(reading, rule->line, "this rule has no \"device\"");
	if (rule->share ? asprintf(&rule->subscription, "$share/%s/%s", rule->share, rule->filter.text) < 0 :
		!(rule->subscription = iotmq_copy(rule->filter.text)))
		abort();
	return true;
}

/* What is missing, and what was not said */
static bool
finish(const Reading *reading)
{
	Rules	   *rules = reading->rules;

	if (!rules->host)
		return wrong(reading, reading->line, "there is no \"broker\"");
	if (!rules->client_id)
		return wrong(reading, reading->line, "there is no \"client-id\", by which the broker keeps what is not acknowledged");
	if (!reading->has_poison)
		return wrong(reading, reading->line, "there is no \"poison\": name a topic for what can't be published, or \"none\"");
	if (rules->password && !rules->user)
		return wrong(reading, reading->line, "a password needs a \"user\"");	/* [MQTT-3.1.2-22] */
	if ((rules->ca_file || rules->cert_file || rules->key_file) && !rules->tls)
		return wrong(reading, reading->line, "files of certificates need \"tls = on\"");
	if (rules->key_file && !rules->cert_file)
		return wrong(reading, reading->line, "a \"key-file\" needs a \"cert-file\"");
	if (rules->count == 0)
		return wrong(reading, reading->line, "there is no rule");
	for (int i = 0; i < rules->count; i++)
		if (!finish_rule(reading, &rules->rules[i]))
			return false;
	if (!rules->port)
		rules->port = iotmq_copy(rules->tls ? "8883" : "1883");
	return true;
}

/*
 * false: it can't be used, and "complain" was called.
 */
bool
rules_read(Rules *rules, const char *name, void (*complain) (const char *format,...))
{
	Reading		reading = {.rules = rules,.name = name,.complain = complain};
	FILE	   *file = fopen(name, "r");
	char	   *text = NULL;
	size_t		size = 0;
	bool		good = true;

	*rules = (Rules)
	{
		.keep_alive = 60,.rules = iotmq_allocate(sizeof(Rule) * MOST_RULES)
	};
	if (!file)
	{
		complain("%s: %s", name, strerror(errno));
		return false;
	}
	while (good && getline(&text, &size, file) >= 0)
	{
		reading.line++;
		good = read_line(&reading, text);
	}
	if (good && ferror(file))
		good = wrong(&reading, reading.line, strerror(errno));
	free(text);
	fclose(file);
	return good && finish(&reading);
}

/* The first rule that matches; NULL: none does.  captures: as of filter_matches */
const Rule *
rules_find(const Rules *rules, Slice topic, Slice *captures)
{
	for (int i = 0; i < rules->count; i++)
		if (filter_matches(&rules->rules[i].filter, topic, captures))
			return &rules->rules[i];
	return NULL;
}
