/*
 * consume_grant.c - the type of a role that may consume or mirror: one that may be missing.
 *
 * A right to consume is a row of consume_grant, one to mirror of mirror_grant, and a dump
 * names its role. regrole would
 * refuse a name that the new server doesn't have, and with it all rows of the table. This
 * type takes it as no role (0), with a warning, and a trigger leaves the row out.
 */
#include "core/core.h"

#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/varlena.h"

/*
 * consume_grant_in(cstring) RETURNS grantee: as regrole's, but 0 and a warning for a role that
 * isn't there. Errors: 42602 not a name.
 */
PG_FUNCTION_INFO_V1(iotmq_consume_grant_in);
Datum
iotmq_consume_grant_in(PG_FUNCTION_ARGS)
{
	char	   *input = PG_GETARG_CSTRING(0);
	List	   *names;
	Oid			role;

	if (strcmp(input, "-") == 0)
		PG_RETURN_OID(InvalidOid);
	if (input[0] != '\0' && strspn(input, "0123456789") == strlen(input))
		return DirectFunctionCall1(oidin, CStringGetDatum(input));
	if (!SplitIdentifierString(pstrdup(input), '.', &names) || list_length(names) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("invalid role name \"%s\"", input)));
	role = get_role_oid(linitial(names), true);
	if (!OidIsValid(role))
		ereport(WARNING,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("role \"%s\" does not exist", (char *) linitial(names)),
				 errdetail("Its right to consume or mirror is left out."),
				 errhint("Create the role, and call iotmq.grant_consume or iotmq.grant_mirror.")));
	PG_RETURN_OID(role);
}
