-- A finding notes in which results it was found. What an earlier version found is shown.

ALTER TABLE finding ADD COLUMN last_result bigint NOT NULL DEFAULT 0;
DROP INDEX finding_place;
CREATE INDEX finding_place ON finding (check_name, places, secim, last_result);
