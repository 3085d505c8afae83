CREATE TABLE orders (order_id varchar(40) PRIMARY KEY, amount numeric(12, 2) NOT NULL, customer varchar(100), paid_at timestamp NULL);
CREATE TABLE stock (sku varchar(40) PRIMARY KEY, n integer NOT NULL);
CREATE TABLE daily (day date PRIMARY KEY, orders integer NOT NULL, amount numeric(12, 2) NOT NULL);
INSERT INTO stock (sku, n) VALUES ('bell', 10), ('rope', 10);
