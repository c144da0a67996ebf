/*
 * row_name.h: what people know a row by.
 */
#ifndef MOE_ROW_NAME_H
#define MOE_ROW_NAME_H

#include "postgres.h"

#include "extension/model.h"

/*
 * "orders 4711 (2024-03-02)": the table, the row's primary key, and its day if it has a time. Without a key that the
 * user may read, "visits of customer_id 7, page_id 3 (2024-03-02 10:15:00)": its foreign keys. Times are in UTC, in ISO
 * form. palloc'd. The first name of a table's row reads the table's keys; they are kept as long as the rows that the
 * predictor read.
 */
char *moe_row_name(moe_predictor *predictor, int table, int32 row);

#endif
