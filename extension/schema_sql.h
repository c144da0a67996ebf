/*
 * schema_sql.h: the surroundings of generated SQL.
 */
#ifndef MOE_SCHEMA_SQL_H
#define MOE_SCHEMA_SQL_H

#include "postgres.h"

/*
 * Pin every setting that name resolution or text output depends on (search_path,
 * TimeZone, DateStyle, ...) until moe_sql_end of the returned level; an error
 * undoes it with the transaction.
 */
int moe_sql_begin(void);
/*
 * For a model's own SQL, with constants and types of the user's: until
 * moe_sql_end, TimeZone is UTC and, unless it is NULL, search_path is this;
 * pg_catalog is searched first, wherever the path names it.
 */
int moe_sql_begin_model(const char *search_path);
void moe_sql_end(int level);

/* A date, timestamp or timestamptz on the common axis; infinities are DT_NOBEGIN and DT_NOEND. */
int64 moe_sql_time(Datum value, Oid type);

#endif
